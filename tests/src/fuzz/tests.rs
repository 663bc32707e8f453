//! The changer itself.

use std::time::Duration;

use super::{Chance, LARGEST, change, run};

#[test]
fn a_seed_tells_a_run() {
    let twice: Vec<Vec<Vec<u8>>> = (0..2)
        .map(|_| {
            let mut chance = Chance::new(7);
            let mut input = b"{\"name\": 1}".to_vec();
            (0..100)
                .map(|_| {
                    change(&mut input, b"[1, 2, 3]", &mut chance);
                    input.clone()
                })
                .collect()
        })
        .collect();
    assert_eq!(twice[0], twice[1]);
    assert!(twice[0].windows(2).any(|pair| pair[0] != pair[1]), "nothing was changed");
}

#[test]
fn inputs_stay_small() {
    let mut chance = Chance::new(1);
    let mut input = vec![b'['; LARGEST];
    for _ in 0..1000 {
        change(&mut input, &[b'x'; 100], &mut chance);
        assert!(input.len() <= LARGEST);
    }
}

#[test]
fn a_panic_is_found_and_told_with_its_input() {
    let seeds = [b"abc".to_vec()];
    let trips = |input: &[u8]| assert!(input.len() < 5 || input[4] != b'{', "tripped");
    let failure = run(3, Duration::from_secs(5), &seeds, trips).expect_err("the target panics on some input");
    assert!(failure.to_string().contains("seed 3"), "{failure}");
}
