//! An hour in which nothing happens: what is asked of the API server meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Bed;
use super::contender::Contender;
use super::nodes::write_nodes;
use crate::apiserver::ACCOUNT;
use crate::bench::SIZES;
use crate::bench::figures::{head, note};
use crate::deadline::{seconds, sleep};
use crate::failure::{Context, Outcome};

const MINUTES: u64 = 60;
/// Nothing is asked for so long when the start is over.
const QUIET: Duration = seconds(20);

/// Prints the table.
pub(super) fn measure() -> Outcome {
    let bed = Bed::new()?;
    write_nodes(&bed, SIZES[1])?;
    let mut running = Vec::new();
    for (contender, name) in Contender::BOTH.into_iter().zip(["n1", "n2"]) {
        running.push(contender.start(&bed, bed.node(name))?);
    }
    running.iter().try_for_each(|running| running.process().rest())?;
    // An API server with much to do answers late what was asked at the start.
    let mut before = 0;
    while bed.server.requests()?.len() > before {
        before = bed.server.requests()?.len();
        sleep(QUIET);
    }
    println!("{MINUTES} minutes");
    sleep(seconds(MINUTES * 60));
    head(&format!("requests in {MINUTES} minutes at rest, {} Nodes", SIZES[1]));
    for (asked, times) in counted(&bed, before)? {
        note(&format!("{times} x {asked}"));
    }
    Ok(())
}

/// What was asked since, by whom and how often; of a watch, its beginning.
fn counted(bed: &Bed, before: usize) -> Outcome<BTreeMap<String, usize>> {
    let mut counted = BTreeMap::new();
    for event in bed.server.requests()?.split_off(before) {
        let is_watch = event["verb"] == "watch";
        if event["user"]["username"] != ACCOUNT || is_watch && event["stage"] != "ResponseStarted" {
            continue;
        }
        let uri = event["requestURI"].as_str().context("a request has no URI")?;
        let [agent, verb] = ["userAgent", "verb"].map(|field| event[field].as_str().unwrap_or_default());
        let [agent, path] = [(agent, '/'), (uri, '?')].map(|(text, end)| text.split(end).next().unwrap_or_default());
        let asked = format!("{agent}: {verb} {path}");
        *counted.entry(asked).or_default() += 1;
    }
    Ok(counted)
}
