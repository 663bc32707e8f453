use std::fs;

use super::*;

#[test]
fn a_file_of_the_future_is_not_read_for_ever() {
    let room = tempfile::tempdir().expect("temporary folder");
    let file = room.path().join("nodes/a.json");
    fs::create_dir(room.path().join("nodes")).expect("folder");
    fs::write(room.path().join("net-conf.json"), "{}").expect("net-conf.json");
    fs::write(&file, "no lease").expect("a node's file");
    let poll = Duration::from_secs(5);
    let mut followed = Followed::new(Layout::new(room.path().to_owned(), None), poll, None, None);
    let (begun, year) = (Instant::now(), Duration::from_hours(365 * 24));
    let mut is_open = |after: Duration| {
        let wall = SystemTime::now() - year;
        followed.look(&Changed::All, Now { at: begun + after, wall });
        followed.files["a.json"].open.is_some()
    };
    assert!(is_open(Duration::ZERO), "another content may come with the same time");
    assert!(is_open(Duration::from_secs(1)), "it may have, within one step of the file system's clock");
    assert!(!is_open(poll), "it has had this time for longer than a step");
    fs::write(&file, "other").expect("a node's file");
    assert!(is_open(2 * poll), "it has got another time");
    assert!(!is_open(3 * poll), "and that for longer than a step");
}
