//! Values that are true: of the process, of the log and its disk, of the answers to webhooks.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::harness::{Gateway, OTHER_SECRET, Options, eventually, now_seconds};

/// The value of a series, if it is shown.
pub(super) async fn shown(gateway: &Gateway, series: &str) -> Option<f64> {
    let text = gateway.admin_get("/metrics").await.text;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

fn seconds(number: u64) -> f64 {
    Duration::from_secs(number).as_secs_f64()
}

#[tokio::test]
async fn the_process_is_shown_as_the_kernel_sees_it() {
    let started = seconds(now_seconds().unsigned_abs());
    let gateway = Gateway::start();
    let value = async |name: &str| {
        let name = format!("process_{name}");
        let value = shown(&gateway, &name).await;
        value.unwrap_or_else(|| panic!("{name} is not shown"))
    };
    let start = value("start_time_seconds").await;
    // The kernel counts from the second in which the system started.
    let now = seconds(now_seconds().unsigned_abs());
    assert!((started - 2.0..=now + 2.0).contains(&start), "{start}");
    let resident = value("resident_memory_bytes").await;
    assert!((1e6..1e9).contains(&resident), "{resident}");
    assert!(value("virtual_memory_bytes").await > resident);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid()));
    let limits = limits.expect("readable");
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = open_files.expect("a limit").split_whitespace().nth(3);
    let expected: f64 = soft.expect("a number").parse().expect("limited");
    assert!((value("max_fds").await - expected).abs() < 1.0);
    let files = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("readable");
    let files = seconds(files.count() as u64);
    assert!((value("open_fds").await - files).abs() <= 2.0, "{files}");
    let threads = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("readable");
    let threads = seconds(threads.count() as u64);
    assert!((value("threads").await - threads).abs() <= 2.0, "{threads}");
    let before = value("cpu_seconds_total").await;
    eventually("a scrape takes time of the processors", || async {
        value("cpu_seconds_total").await > before
    })
    .await;
}

#[tokio::test]
async fn the_log_shows_its_ends_its_limits_and_its_disk() {
    let options = Options::args(&["--retain-for", "36h", "--retain-bytes", "2GiB"]);
    let gateway = Gateway::start_with(options);
    let value = |name: &str| {
        let name = format!("clerkcast_{name}");
        let gateway = &gateway;
        async move { shown(gateway, &name).await }
    };
    assert_eq!(value("log_retain_seconds").await, Some(129_600.0));
    assert_eq!(value("log_retain_bytes").await, Some(2_147_483_648.0));
    eventually("the log has been looked at", || async {
        value("data_dir_size_bytes").await.is_some()
    })
    .await;
    let [free, size] = ["free", "size"].map(|which| value(&format!("data_dir_{which}_bytes")));
    let (free, size) = (free.await.expect("shown"), size.await.expect("shown"));
    assert!(free > 0.0 && free <= size, "{free} of {size}");
    for end in [
        "log_oldest_timestamp_seconds",
        "log_newest_timestamp_seconds",
    ] {
        assert_eq!(value(end).await, None, "the log is empty");
    }
    let before = now_seconds();
    gateway.accept("msg_1", "{}").await;
    let after = now_seconds();
    eventually("the log shows when its events were received", || async {
        value("log_newest_timestamp_seconds").await.is_some()
    })
    .await;
    let [oldest, newest] =
        ["oldest", "newest"].map(|which| value(&format!("log_{which}_timestamp_seconds")));
    let (oldest, newest) = (oldest.await, newest.await);
    assert_eq!(oldest, newest);
    let range = seconds(before.unsigned_abs())..=seconds(after.unsigned_abs());
    assert!(range.contains(&newest.expect("shown")), "{newest:?}");
}

#[tokio::test]
async fn answers_and_ages_are_shown_by_what_became_of_a_delivery() {
    let gateway = Gateway::start();
    let occurred = |seconds_ago: u64| {
        let then = SystemTime::now() - Duration::from_secs(seconds_ago);
        let since = then.duration_since(SystemTime::UNIX_EPOCH).expect("later");
        format!(
            r#"{{"type":"user.created","timestamp":{}}}"#,
            since.as_millis()
        )
    };
    gateway.accept("msg_1", occurred(100)).await;
    gateway.accept("msg_2", occurred(9_000)).await;
    gateway.post("msg_2", occurred(9_000)).await;
    gateway.accept("msg_3", "{}").await;
    let event = Bytes::from("{}");
    gateway.post_signed("", OTHER_SECRET, "msg_4", event).await;
    for (outcome, count) in [
        ("accepted", 3.0),
        ("duplicate", 1.0),
        ("rejected", 1.0),
        ("unavailable", 0.0),
    ] {
        let series = format!("clerkcast_webhook_answer_seconds_count{{outcome=\"{outcome}\"}}");
        assert_eq!(shown(&gateway, &series).await, Some(count), "{outcome}");
    }
    // A repeated delivery has no age, and neither has an event that does not say when it was.
    for (below, count) in [
        ("60.0", 0.0),
        ("300.0", 1.0),
        ("7200.0", 1.0),
        ("28800.0", 2.0),
    ] {
        let series = format!(
            "clerkcast_webhook_event_age_seconds_bucket{{le=\"{below}\",source=\"default\"}}"
        );
        assert_eq!(shown(&gateway, &series).await, Some(count), "{below}");
    }
    let series = "clerkcast_webhook_event_age_seconds_count{source=\"default\"}";
    assert_eq!(shown(&gateway, series).await, Some(2.0));
}
