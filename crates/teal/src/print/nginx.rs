//! What nginx leads to, and what becomes of its files.

use crate::nginx::moved::Moved;
use crate::print::words::counted;
use crate::print::{Paint, diff};
use crate::verb::adopt::Shown;

pub fn plan(shown: &Shown, paint: Paint) -> String {
    let mut text = String::new();
    if shown.services.is_empty() {
        text.push_str("nginx leads to no port of a service of Teal: nothing to change\n");
    }
    for service in &shown.services {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}\n", paint.bold(&service.service.to_string())));
        let mut row = |name: &str, value: &str| {
            text.push_str(&format!("  {} {value}\n", paint.dim(&format!("{name:<8}"))));
        };
        for line in &service.uses {
            row("leads", &format!("{}:{}: {}", line.file, line.line, line.what));
        }
        match service.waits {
            true => row(
                "port",
                "Docker's until the first deployment, then Teal's, the same number; after it, run this again: connections that nginx kept to the adopted containers would end with them",
            ),
            false => row("port", "Teal's, and it stays the same: the address needs no change at a deployment"),
        }
        match service.trusted {
            true => row("headers", &format!("X-Forwarded-* of nginx ({}) are believed", service.peer)),
            false => row(
                "headers",
                &format!(
                    "X-Forwarded-* of nginx ({0}) are not believed: write `x-teal: {{trusted_proxies: [\"{0}\"]}}` at the top level of the compose file, and deploy",
                    service.peer
                ),
            ),
        }
        for line in &service.left {
            row("left", &format!("{}:{}: {}", line.file, line.line, line.what));
        }
        if let Some(why) = &service.blocked {
            row("blocked", why);
        }
        match service.files.len() {
            0 => row("changes", "none: nginx is not reloaded"),
            n => row("changes", &format!("{}, and one reload", counted(n as u64, "file"))),
        }
        for file in &service.files {
            text.push_str(&format!("\n{}\n", paint.bold(&file.file.display().to_string())));
            text.push_str(&colored(&file.diff, paint));
        }
    }
    if shown.services.iter().any(|service| !service.files.is_empty()) && shown.worker_shutdown_timeout.is_none() {
        text.push_str("\nnginx has no worker_shutdown_timeout: after the reload its old workers stay as long as any of their connections\n");
    }
    if !shown.left.is_empty() {
        text.push_str("\nleft alone:\n");
        for line in &shown.left {
            text.push_str(&format!("  {}:{}: {}\n", line.file, line.line, line.what));
        }
    }
    text
}

fn colored(lines: &[String], paint: Paint) -> String {
    let one = |line: &String| match line.chars().next() {
        Some('+') => paint.green(line),
        Some('-') => paint.red(line),
        Some('@') => paint.dim(line),
        _ => line.clone(),
    };
    lines.iter().map(|line| format!("{}\n", one(line))).collect()
}

pub fn moved(moved: &Moved) -> String {
    let files: Vec<String> = moved.files.iter().map(|file| file.path.display().to_string()).collect();
    format!(
        "changed {}, and nginx took it; `teal adopt nginx --undo {}` puts it back\n",
        files.join(", "),
        moved.service
    )
}

pub fn undoing(moved: &Moved, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&moved.service.to_string()));
    for file in &moved.files {
        text.push_str(&format!("\n{}\n", paint.bold(&file.path.display().to_string())));
        text.push_str(&colored(&diff::lines(&file.after, &file.before), paint));
    }
    text
}

pub fn undone(moved: &Moved) -> String {
    format!("{}: {} as before, and nginx took it\n", moved.service, counted(moved.files.len() as u64, "file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::moved::Changed;
    use crate::print::golden;
    use crate::verb::adopt::{Diff, Line, ShownMove};
    use teal_model::ids::ServiceKey;

    fn line(line: usize, what: &str) -> Line {
        Line { file: "/etc/nginx/conf.d/app.conf".to_owned(), line, what: what.to_owned() }
    }

    #[test]
    fn what_becomes_of_the_files_is_shown_before() {
        let (before, after) = (
            "upstream app {\n    server 127.0.0.1:8080;\n}\n",
            "upstream app {\n    server 127.0.0.1:8080;\n    keepalive 32;\n}\n",
        );
        let file = std::path::PathBuf::from("/etc/nginx/conf.d/app.conf");
        let changed = Changed { path: file.clone(), before: before.to_owned(), after: after.to_owned() };
        let app = ShownMove {
            service: ServiceKey::new("shop", "app"),
            uses: vec![line(2, "upstream app: 127.0.0.1:8080 leads there, and stays")],
            left: vec![line(9, "the Connection header is set to `upgrade` there (for WebSockets?)")],
            files: vec![Diff { file, diff: diff::lines(before, after), changed }],
            waits: false,
            trusted: false,
            peer: "127.0.0.1".parse().unwrap(),
            blocked: None,
        };
        let api = ShownMove {
            service: ServiceKey::new("shop", "api"),
            uses: vec![line(5, "upstream api: 127.0.0.1:9000 leads there, and stays")],
            left: Vec::new(),
            files: Vec::new(),
            waits: true,
            trusted: true,
            peer: "127.0.0.1".parse().unwrap(),
            blocked: None,
        };
        let left =
            vec![line(20, "proxy_pass $to has a variable, so that where it leads is known for each request alone")];
        let shown = Shown { services: vec![app, api], left, worker_shutdown_timeout: None };
        golden("adopt-nginx.txt", &plan(&shown, Paint::NONE));
    }
}
