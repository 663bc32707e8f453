use super::*;

#[test]
fn a_run_without_a_line_of_its_own_is_logged_by_a_timer() {
    let now = Instant::now();
    let mut throttle = LogThrottle { last_line: Some(now), ..LogThrottle::default() };
    assert_eq!(throttle.next(), None, "nothing is left to log");
    throttle.push(2, Duration::from_micros(5));
    throttle.push(1, Duration::from_micros(5));
    assert_eq!((throttle.runs, throttle.changed), (2, 3));
    let next = throttle.next().expect("something is left to log");
    assert!(throttle.rests(now) && !throttle.rests(next), "and by then a line may be written");
}
