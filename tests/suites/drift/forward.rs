//! netd's rules in the chain that iptables shares: whatever is done to them, pods may be forwarded again.

use std::fmt::Write as _;

use netd_tests::{Context, Namespace, Outcome, ensure, eventually, seconds};

use super::bed::{self, Bed};

/// With `$IPTABLES` and `$CHAIN`, once for each family. `$OURS` lists the numbers of netd's rules.
const HARM: [&str; 8] = [
    "nft delete rule $CHAIN handle $($OURS | head -n 1)",
    "nft delete rule $CHAIN handle $($OURS | tail -n 1)",
    "for rule in $($OURS); do nft delete rule $CHAIN handle $rule; done",
    // Before those of others.
    "rule=$(nft list chain $CHAIN | grep 'may be forwarded' | tail -n 1 | sed 's/packets [0-9]* bytes [0-9]*//')
     nft delete rule $CHAIN handle $($OURS | tail -n 1); nft insert rule $CHAIN $rule",
    "nft replace rule $CHAIN handle $($OURS | tail -n 1) counter drop comment '\"'\"$COMMENT\"'\"'",
    "$IPTABLES -F FORWARD",
    THERE_AND_BACK,
    "nft delete table ${CHAIN%FORWARD}; $IPTABLES -P FORWARD DROP",
];

/// The only harm that leaves the rules as they were.
const THERE_AND_BACK: &str = "$IPTABLES -P FORWARD ACCEPT; $IPTABLES -P FORWARD DROP";

const FAMILIES: [&str; 2] =
    ["IPTABLES=iptables-nft; CHAIN='ip filter FORWARD'", "IPTABLES=ip6tables-nft; CHAIN='ip6 filter FORWARD'"];

/// The daemon of `bed` learns of drift by notifications alone.
pub(crate) fn heals(mut bed: Bed) -> Outcome {
    for family in FAMILIES {
        let rules = "$IPTABLES -P FORWARD DROP; $IPTABLES -A FORWARD -i other9 -j DROP";
        n1(&bed).shell(&format!("{family}\n{rules}"))?;
    }
    let whole = eventually(seconds(10), "netd's rules are there", || {
        let rules = rules(&bed)?;
        ensure!(rules.len() == 4, "two of each family, but there are {rules:?}");
        Ok(rules)
    })?;
    let mut failures = Vec::new();
    for harm in &HARM {
        // It loses patience with somebody who undoes one thing all the time.
        bed.restart()?;
        let mut script = String::new();
        for family in FAMILIES {
            let ours = "OURS=ours; ours() { nft -a list chain $CHAIN | sed -n '/may be forwarded/s/.* handle //p'; }";
            let comment = "COMMENT=$(nft list chain $CHAIN | sed -n 's/.*comment \"\\(.*may be forwarded\\)\".*/\\1/p' | head -n 1)";
            let _ = writeln!(script, "{family}\n{ours}\n{comment}\n{harm}");
        }
        let before = all_rules(&bed)?;
        bed.injure(&script, || {
            ensure!(*harm == THERE_AND_BACK || all_rules(&bed)? != before, "the rules are as before");
            Ok(())
        })
        .context(format!("`{harm}`"))?;
        let healed = eventually(seconds(10), "netd's rules are as before", || {
            let rules = rules(&bed)?;
            ensure!(rules == whole, "there are {rules:?}");
            Ok(())
        });
        if let Err(failure) = healed.and_then(|()| bed.talk()).context(format!("after `{harm}`")) {
            failures.push(bed.cluster.with_logs(failure));
        }
    }
    bed::all_of(&failures)
}

fn n1(bed: &Bed) -> &Namespace {
    bed.cluster.node("n1").namespace()
}

/// All rules with their handles, without what counts.
fn all_rules(bed: &Bed) -> Outcome<String> {
    n1(bed).shell("nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'")
}

/// netd's rules in the shared chains, sorted and without what counts.
fn rules(bed: &Bed) -> Outcome<Vec<String>> {
    let all = n1(bed).run("nft list ruleset")?;
    let ours = all.lines().filter(|line| line.contains("may be forwarded"));
    let without =
        |line: &str| line.split_whitespace().filter(|word| word.parse::<u64>().is_err()).collect::<Vec<_>>().join(" ");
    let mut ours: Vec<String> = ours.map(without).collect();
    ours.sort();
    Ok(ours)
}
