use super::*;

#[test]
fn a_storm_gets_its_share_and_no_more() {
    let start = Instant::now();
    let mut schedule = Schedule::new(None, start);
    let took = Duration::from_millis(40);
    let (mut now, mut busy) = (start, Duration::ZERO);
    while now < start + Duration::from_mins(1) {
        now = now.max(schedule.rest) + took;
        busy += took;
        schedule.ran(took, true, now);
        assert!(schedule.rest <= now + LONGEST_REST, "nobody waits for longer");
    }
    assert!(busy * SHARE <= (now - start) + BURST + took * SHARE, "{busy:?} of {:?}", now - start);
}

#[test]
fn a_request_that_is_not_limited_runs_at_once() {
    let start = Instant::now();
    let mut schedule = Schedule::new(None, start);
    schedule.ran(Duration::from_secs(1), true, start);
    schedule.request(Trigger::KernelChanged);
    assert_eq!(schedule.take_request(start), None, "it waits for the rest");
    assert_eq!(schedule.next(start), schedule.rest, "and is asked then");
    schedule.request(Trigger::Startup);
    schedule.request(Trigger::StoreChanged);
    assert_eq!(schedule.take_request(start), Some(Trigger::Startup));
    assert!(schedule.requested.is_none(), "one run is for all of them");
}

#[test]
fn what_comes_seldom_does_not_wait() {
    let start = Instant::now();
    let mut schedule = Schedule::new(None, start);
    for second in 1..10 {
        let now = start + Duration::from_secs(second);
        assert!(schedule.rest <= now, "after a second of quiet");
        schedule.ran(Duration::from_millis(20), true, now);
    }
}
