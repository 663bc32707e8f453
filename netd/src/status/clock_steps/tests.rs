use serde_json::{Value, json};

use super::*;

const YEAR: i64 = 365 * 24 * 60 * 60;

fn at(wall: i64, monotonic: u64) -> ClockReading {
    let wall = Timestamp::from_second(wall).expect("a time");
    ClockReading { wall, monotonic: Duration::from_millis(monotonic * 1000 + 900) }
}

#[test]
fn only_a_jump_is_a_step() {
    let then = at(50 * YEAR, 7);
    for (wall, monotonic, step) in [
        (50 * YEAR, 7, 0),
        (50 * YEAR + 300, 307, 0),
        (50 * YEAR + 302, 307, 0),
        (50 * YEAR + 310, 307, 10),
        (70 * YEAR + 1, 8, 20 * YEAR),
        (1, 8, -50 * YEAR),
    ] {
        assert_eq!(at(wall, monotonic).step_since(then), step, "{wall} after {monotonic} s");
    }
}

#[test]
fn every_timestamp_moves() {
    let before = "2026-02-28T23:59:00Z";
    let way = json!({ "subnet": "10.244.2.0/24", "way": "none", "why": "", "programmed": false, "since": before });
    let document = json!({
        "running": true, "version": "", "started": before, "ready": false, "node": null,
        "peers": { "n2": { "backend": "vxlan", "public": [], "ways": [way, way] } }, "leftOut": {},
        "lastReconcile": { "trigger": "", "at": before, "milliseconds": 0, "changed": 0, "failed": 0 },
        "lastFullRead": before, "operations": {}, "problems": [{ "kind": "LeaseLost", "subject": "a", "detail": "", "since": before }],
        "contested": { "b": { "times": 1, "next": before } },
        "store": { "lastEvent": before, "trouble": { "what": "", "since": before } },
    });
    let mut status: Status = serde_json::from_value(document).expect("a status");
    let text = |status: &Status| serde_json::to_value(status).expect("a document").to_string();
    let timestamps = text(&status).matches(before).count();
    status.shift(3600);
    let moved: Value = text(&status).parse().expect("a document");
    assert_eq!(moved.to_string().matches("2026-03-01T00:59:00Z").count(), timestamps, "{moved:#}");
    status.shift(i64::MIN);
    assert_eq!(status.daemon.started, Timestamp::MIN, "there is nothing before that");
}
