use serde_json::{Value, json};

use super::*;

const YEAR: u64 = 365 * 24 * 60 * 60;

fn at(wall: u64, steady: u64) -> Clocks {
    Clocks { wall: Moment(wall), steady: Duration::from_millis(steady * 1000 + 900) }
}

#[test]
fn a_clock_that_goes_is_not_set_and_one_that_jumps_is() {
    let then = at(50 * YEAR, 7);
    for (wall, steady, set) in [
        (50 * YEAR, 7, 0),
        (50 * YEAR + 300, 307, 0),
        (50 * YEAR + 302, 307, 0),
        (50 * YEAR + 310, 307, 10),
        (70 * YEAR + 1, 8, (20 * YEAR).cast_signed()),
        (1, 8, -(50 * YEAR).cast_signed()),
    ] {
        assert_eq!(at(wall, steady).set_since(then), set, "{wall} after {steady} s");
    }
}

#[test]
fn every_moment_moves() {
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
    let moments = text(&status).matches(before).count();
    status.shift(3600);
    let moved: Value = text(&status).parse().expect("a document");
    assert_eq!(moved.to_string().matches("2026-03-01T00:59:00Z").count(), moments, "{moved:#}");
    status.shift(i64::MIN);
    assert_eq!(status.started, Moment(0), "there is nothing before 1970");
}
