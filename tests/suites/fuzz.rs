//! Everything that strangers write, changed at random: no parser may panic or think long, and what it accepts must
//! keep its promises.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::words::{IfName, Mac, Prefix};
use libtest_mimic::{Arguments, Trial};
use netd_tests::fuzz;
use netd_tests::suite::test;

fn main() -> ExitCode {
    // Reads and writes nothing: no namespaces are needed.
    libtest_mimic::run(
        &Arguments::from_args(),
        vec![target("words", &["cni0", "0a:58:0a:f4:01:02", "10.244.1.0/24"], words)],
    )
    .exit_code()
}

fn target(name: &str, seeds: &[&str], parse: fn(&[u8])) -> Trial {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    test(name, move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = fuzz::run(u64::from(now.subsec_nanos()), fuzz::duration()?, &seeds, parse)?;
        netd_tests::ensure!(count > seeds.len(), "the time was too short for a single change");
        Ok(())
    })
}

/// A word that parses prints as a text that parses to the same word.
fn words(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(name) = text.parse::<IfName>() {
        assert_eq!(name.to_string(), text, "an interface name is kept as it is");
    }
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac), "a MAC address prints as it reads");
    }
    if let Ok(prefix) = text.parse::<Prefix>() {
        assert_eq!(prefix.to_string().parse(), Ok(prefix), "a prefix prints as it reads");
        assert!(prefix.contains(prefix.address()), "{prefix} does not hold its own address");
    }
}
