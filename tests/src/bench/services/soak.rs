//! Many changes for some minutes: none is lost, memory and lag keep within bounds. Only netd-proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use dataplane::nft::{Data, Element, Key, Socket, Table, TableFamily, Value};

use super::contender::Contender;
use super::notifications::Notifications;
use super::{Bed, SIZES, change, objects};
use crate::bench::figures::{Times, head, note, quantile, to_f64};
use crate::deadline::seconds;
use crate::failure::{Context, Outcome};

/// How many endpoints each Service has.
const ENDPOINTS: u32 = 10;
const TIMEOUT: Duration = seconds(600);
/// How long one storm lasts, after which a change is timed and memory is read.
const STEP: Duration = seconds(10);
/// How many storms.
const STEPS_PER_MINUTE: u32 = 6;

/// Prints the figures.
pub(super) fn measure() -> Outcome {
    let minutes = super::minutes(10);
    let mut bed = Bed::with(ENDPOINTS)?;
    bed.fill(SIZES[2])?;
    let contender = Contender::Netd;
    let mut notifications = Notifications::open(contender.namespace(&bed))?;
    let running = contender.start(&bed)?;
    notifications.await_all(&bed.slice(bed.size - 1).addresses, TIMEOUT)?;
    notifications.await_silence(seconds(2))?;
    let first = running.process().memory()?;
    let (mut number, mut count, mut lags, mut resident) = (0, 0, Times::default(), Vec::new());
    let begun = Instant::now();
    for _ in 0..minutes * STEPS_PER_MINUTE {
        count += change::storm(&bed, &mut number, STEP)?;
        number += 1;
        let slice = change::next(&bed, number);
        notifications.drain()?;
        bed.patch(&slice)?;
        let answered = Instant::now();
        let received = notifications.await_all(&[objects::changed(number)], TIMEOUT)?;
        lags.push(received.saturating_duration_since(answered));
        resident.push(to_f64(running.process().memory()?.resident) / 1024.0);
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    running.process().rest()?;
    let memory = running.process().memory()?;
    let lost = compare(&bed)?;
    println!("{count} changes among {} Services, {rate:.0} a second", bed.size);
    head("lag");
    lags.row("a change right after 10 s of changes, from the answer");
    let mib = |kib| to_f64(kib) / 1024.0;
    let [low, high] = [0, 100].map(|percent| quantile(&resident, percent));
    note(&format!(
        "RSS: {:.1} MiB before, {low:.1}-{high:.1} during the changes, {:.1} afterwards, {:.1} at its peak",
        mib(first.resident),
        mib(memory.resident),
        mib(memory.peak)
    ));
    note(&format!("Services whose endpoints in the kernel are not those of the API server: {lost}"));
    crate::ensure!(lost == 0, "changes were lost");
    Ok(())
}

/// How many Services have other endpoints in the kernel than in the API server.
fn compare(bed: &Bed) -> Outcome<usize> {
    let read = || Socket::open().and_then(|mut socket| socket.read_table(TableFamily::Ip, "netd-proxy"));
    let table = Contender::Netd.namespace(bed).within(read)?.context("read the table")?.context("there is no table")?;
    let programmed = programmed(&table);
    let answer = bed.server.get(objects::SLICES)?;
    let slices = answer["items"].as_array().context("a list of slices")?;
    let mut lost = 0;
    for number in 0..bed.size {
        let name = objects::name(number);
        let slice = slices.iter().find(|slice| slice["metadata"]["name"] == name.as_str());
        let endpoints = slice.and_then(|slice| slice["endpoints"].as_array()).context(format!("the slice {name}"))?;
        let wanted: BTreeSet<Ipv4Addr> =
            endpoints.iter().filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok()).collect();
        lost += usize::from(programmed.get(&objects::cluster_ip(number)) != Some(&wanted));
    }
    Ok(lost)
}

/// The endpoints of each cluster IP, in whichever map they are.
fn programmed(table: &Table) -> BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>> {
    let maps = table.sets.values().filter(|set| set.data.is_some() && !set.is_dynamic());
    let mut programmed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (Key(key), Element { data, .. }) in maps.flat_map(|set| &set.elements) {
        let (Some(Value::Address(IpAddr::V4(service))), Some(Data::Values(values))) =
            (key.first().map(|interval| &interval.first), data)
        else {
            continue;
        };
        if let Some(Value::Address(IpAddr::V4(endpoint))) = values.first() {
            programmed.entry(*service).or_default().insert(*endpoint);
        }
    }
    programmed
}
