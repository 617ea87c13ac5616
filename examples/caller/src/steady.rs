//! Every connection calls on its own schedule, whatever becomes of the calls.

use crate::call::Line;
use crate::counts::{Calls, Counts};
use crate::settings::Settings;
use crate::{monotonic_us, say};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a signal may wait to be heard.
const LOOK: Duration = Duration::from_millis(20);

/// Calls until a signal says that it is enough, and then says the counts for the last time.
pub fn run(settings: &Settings) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let run = monotonic_us();
    let all = start(settings, &ended);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, settings.port))?;
    let theirs = all.clone();
    std::thread::spawn(move || say::on_request(&listener, || counts(run, &theirs)));
    let mut next = Instant::now() + settings.log_every;
    while !ended.load(Ordering::SeqCst) {
        std::thread::sleep(LOOK);
        if Instant::now() >= next {
            next += settings.log_every;
            say::line(&counts(run, &all));
        }
    }
    say::line(&counts(run, &all));
    Ok(())
}

/// A thread for each connection. Calls that are under way when it ends are nobody's.
fn start(settings: &Settings, ended: &Arc<AtomicBool>) -> Vec<Arc<Mutex<Calls>>> {
    let mut all = Vec::new();
    for (index, target) in settings.targets.iter().enumerate() {
        for resolve in &settings.resolve {
            let calls = Arc::new(Mutex::new(Calls::new(target.to_string(), *resolve)));
            for number in 0..settings.connections {
                let name = format!("{}-{index}{}{number}", std::process::id(), resolve_letter(*resolve));
                let line = Line::new(target, *resolve, settings, name);
                // Evenly over the time between two calls.
                let first = settings.every * number / settings.connections.max(1);
                let (calls, ended, every) = (Arc::clone(&calls), Arc::clone(ended), settings.every);
                std::thread::spawn(move || keep_calling(line, first, every, &calls, &ended));
            }
            all.push(calls);
        }
    }
    all
}

fn resolve_letter(resolve: crate::target::Resolve) -> char {
    match resolve {
        crate::target::Resolve::Once => 'o',
        crate::target::Resolve::Each => 'e',
    }
}

fn keep_calling(mut line: Line, first: Duration, every: Duration, calls: &Mutex<Calls>, ended: &AtomicBool) {
    let mut due = Instant::now() + first;
    while !ended.load(Ordering::SeqCst) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        line.call(|count| {
            // A signal that came meanwhile stops the neighbours, too: what fails then is nobody's failure.
            if !ended.load(Ordering::SeqCst) {
                count(&mut calls.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        // What was missed while a call took long is not made up for.
        due = (due + every).max(Instant::now());
    }
}

fn counts(run: u64, all: &[Arc<Mutex<Calls>>]) -> Counts {
    let targets = all.iter().map(|calls| calls.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect();
    Counts { run, at_us: monotonic_us(), targets }
}
