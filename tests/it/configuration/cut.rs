//! A file that was cut short, or is being written, changes nothing.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BILLING, Configured, line};

#[tokio::test]
async fn a_file_cut_anywhere_changes_nothing() {
    let whole = format!("{BILLING}types = [\"user.*\"]\nredact = [\"contact\"]\npayload = false\n");
    let configured = Configured::start(&whole);
    for length in 0..whole.len() {
        // In its place, as a disk that is full or a copy that breaks off leaves it.
        std::fs::write(configured.file(), &whole[..length]).expect("written");
        let lines = configured.hang_up().await;
        let refused = line(&lines, "configuration not taken; the former stays in force");
        let error = refused["error"].as_str().expect("text");
        assert!(
            error.contains("looks cut short; write it beside and rename it"),
            "{length}: {error}"
        );
    }
    std::fs::write(configured.file(), &whole).expect("written");
    let lines = configured.hang_up().await;
    let reloaded = line(&lines, "configuration reloaded");
    assert_eq!(reloaded["principals_changed"], "", "nothing has changed");
    // One that is no part of it, and has lost its end.
    std::fs::write(
        configured.file(),
        format!("# rewritten\n{BILLING}payload = true"),
    )
    .expect("written");
    let lines = configured.hang_up().await;
    line(&lines, "configuration not taken");
}

#[test]
fn a_file_without_a_newline_at_its_end_is_warned_of_at_a_start() {
    for (config, is_warned) in [(BILLING.trim_end(), true), (BILLING, false), ("", false)] {
        let log = Configured::start(config).gateway.log_text();
        let warned = log.contains("has no newline at its end");
        assert_eq!(warned, is_warned, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_read_while_it_is_written_is_not_taken() {
    let configured = Configured::start(&format!("# narrow\n{BILLING}types = [\"user.*\"]\n"));
    let path = configured.file();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let wide = format!("# wide\n{BILLING}");
    std::fs::write(&path, format!("{wide}#")).expect("written");
    let writing = std::thread::spawn(move || {
        let mut file = File::options().append(true).open(path).expect("opened");
        while !asked.load(Ordering::Relaxed) {
            // Without a newline, so that a writer that is held up is not taken either.
            file.write_all(b"x").expect("written");
            std::thread::yield_now();
        }
    });
    let lines = configured.hang_up().await;
    let refused = line(&lines, "configuration not taken");
    let error = refused["error"].as_str().expect("text");
    assert!(error.contains("write it beside and rename it"), "{error}");
    stop.store(true, Ordering::Relaxed);
    writing.join().expect("written");
    let lines = configured.reload(&wide).await;
    let reloaded = line(&lines, "configuration reloaded");
    assert_eq!(reloaded["principals_widened"], "billing");
}
