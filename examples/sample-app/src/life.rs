//! The app's life apart from requests: its boot, its health, signals, leaks and a planned death.

use crate::log;
use crate::serve::App;
use crate::settings::{Health, Sigterm};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::Duration;

/// What a shell reports for a process ended by SIGTERM.
const KILLED_BY_SIGTERM: i32 = 143;
const LEAK_STEP: Duration = Duration::from_millis(100);

/// Starts what the settings ask for. Process 1 of a container has no default handlers, hence the thread for signals.
pub fn start(app: &Arc<App>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let listening = Arc::clone(app);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            log::line(&format!("signal {name} {:?}", listening.settings.sigterm));
            match listening.settings.sigterm {
                _ if signal == SIGINT => std::process::exit(130),
                Sigterm::Obey => std::process::exit(KILLED_BY_SIGTERM),
                Sigterm::Ignore => {}
                Sigterm::Drain => listening.drain(),
            }
        }
    });
    if let Some(after) = app.settings.exit_after {
        let code = app.settings.exit_code;
        std::thread::spawn(move || {
            std::thread::sleep(after);
            log::line(&format!("exiting {code}, as planned"));
            std::process::exit(code);
        });
    }
    if app.settings.leak_mb_per_s > 0 {
        let step_bytes = (app.settings.leak_mb_per_s * 1_000_000 / 10) as usize;
        std::thread::spawn(move || {
            loop {
                // Written, not only reserved: a page that nobody touched costs no memory.
                std::mem::forget(vec![0xa5u8; step_bytes]);
                std::thread::sleep(LEAK_STEP);
            }
        });
    }
    Ok(())
}

impl App {
    pub fn booted(&self) -> bool {
        self.started.elapsed() >= self.settings.boot
    }

    pub fn healthy(&self) -> bool {
        self.booted()
            && match self.settings.health {
                Health::Ok => true,
                Health::Never => false,
                Health::Flapping => {
                    let since_boot = self.started.elapsed() - self.settings.boot;
                    (since_boot.as_millis() / self.settings.flap.as_millis().max(1)).is_multiple_of(2)
                }
            }
    }
}
