use super::*;

#[test]
fn a_lease_is_renewed_after_a_third_of_its_life_or_a_margin_before_its_end() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(interval(TTL, minutes(60)), minutes(8 * 60), "flannel's margin");
    assert_eq!(interval(TTL, minutes(20 * 60)), minutes(4 * 60));
    assert_eq!(interval(TTL, minutes(1439)), minutes(1));
    assert_eq!(interval(10, minutes(60)), Duration::from_secs(1), "never without a pause");
    assert_eq!(interval(-1, minutes(0)), Duration::from_secs(1));
}
