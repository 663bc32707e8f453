use std::fs;

use super::*;

#[test]
fn a_file_with_a_timestamp_in_the_future_is_not_read_at_every_update() {
    let room = tempfile::tempdir().expect("temporary folder");
    let file = room.path().join("nodes/a.json");
    fs::create_dir(room.path().join("nodes")).expect("folder");
    fs::write(room.path().join("net-conf.json"), "{}").expect("net-conf.json");
    fs::write(&file, "no lease").expect("a node's file");
    let poll = Duration::from_secs(5);
    let mut watched = WatchedFiles::new(Layout::new(room.path().to_owned(), None), poll, None);
    let (start, year) = (Instant::now(), Duration::from_hours(365 * 24));
    let mut is_unsettled = |after: Duration| {
        let wall = SystemTime::now() - year;
        watched.update(&Changed::All, Now { monotonic: start + after, wall });
        watched.files["a.json"].unsettled.is_some()
    };
    assert!(is_unsettled(Duration::ZERO), "the content may change within the same timestamp");
    assert!(is_unsettled(Duration::from_secs(1)), "within one step of the file system's clock");
    assert!(!is_unsettled(poll), "the timestamp is older than one step");
    fs::write(&file, "other").expect("a node's file");
    assert!(is_unsettled(2 * poll), "a new timestamp");
    assert!(!is_unsettled(3 * poll), "older than one step again");
}
