//! From an `EndpointSlice` to the kernel: the start, one change, memory, and processor time under many changes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::nft::{
    Data, DataType, Element, Key, Operation, RecordList, Records, Set, Socket, Table, TableFamily, Type, Value,
};
use dataplane::types;

use super::contender::{Contender, Running};
use super::notifications::Notifications;
use super::objects::{self, Slice};
use super::{Bed, ENDPOINTS, MANY, SIZES};
use crate::bench::figures::{Times, head, note, quantile, to_f64};
use crate::bench::process::Memory;
use crate::deadline::{seconds, sleep};
use crate::failure::{Context, Failure, Outcome};

const ROUNDS: usize = 2;
const CHANGES: u32 = 40;
/// kube-proxy does not begin again within a second (`minSyncPeriod`): what it does for a change after that is what is measured.
const PAUSE: Duration = Duration::from_millis(1200);
/// Far more than anybody needs.
const TIMEOUT: Duration = seconds(600);
const CHANGED: Duration = seconds(60);
/// Changes a second, and for how long, while processor time is measured.
pub(super) const RATE: u32 = 100;
const BUSY: Duration = seconds(10);
/// How many threads write changes.
const WRITERS: u32 = 8;

/// What one of them took in one round.
struct Round {
    start: Duration,
    /// After the API server's answer.
    changes: Times,
    memory: Memory,
    /// Processor time by time, while there were many changes.
    load: f64,
    /// Changes a second that the API server accepted under that load.
    rate: f64,
}

/// Prints the tables of netd-proxy and kube-proxy's mode nftables.
pub(super) fn measure() -> Outcome {
    measure_against(Contender::KubeProxy)
}

/// Prints those of netd-proxy and kube-proxy's mode iptables.
pub(super) fn measure_iptables() -> Outcome {
    measure_against(Contender::KubeProxyIptables)
}

fn measure_against(other: Contender) -> Outcome {
    let both = [Contender::Netd, other];
    let mut bed = Bed::new()?;
    let mut change = 0;
    let mut medians = Vec::new();
    for size in [SIZES[1], SIZES[2]] {
        bed.fill(size)?;
        let mut rounds = both.map(|_| Vec::new());
        for number in 0..ROUNDS {
            for (contender, rounds) in both.into_iter().zip(&mut rounds) {
                println!("round {} of {ROUNDS}: {}", number + 1, contender.name());
                rounds.push(round(&bed, contender, &mut change)?);
            }
        }
        println!();
        medians.push(print(size, both, &rounds));
        let raw = bed.node("n3").namespace().within(|| raw(size))??;
        raw.row("raw netlink: one endpoint in a map of as many");
        println!();
    }
    note(&format!(
        "netd-proxy, one change among {} Services against {}: {:.2}x",
        SIZES[2],
        SIZES[1],
        medians[1].as_secs_f64() / medians[0].as_secs_f64()
    ));
    Ok(())
}

/// Prints what netd-proxy alone takes among [`super::MANY`] Services with one endpoint each, against 2,000. kube-proxy is left out: it
/// takes minutes for a round.
pub(super) fn measure_many() -> Outcome {
    let mut change = 0;
    let mut medians = Vec::new();
    for (size, endpoints) in [(SIZES[1], ENDPOINTS), (MANY, 1)] {
        let mut bed = Bed::with(endpoints)?;
        bed.fill_directly(size)?;
        let rounds = (0..ROUNDS).map(|_| round(&bed, Contender::Netd, &mut change)).collect::<Outcome<Vec<_>>>()?;
        println!();
        head(&format!("{size} Services x {endpoints}, netd-proxy"));
        let starts: Times = rounds.iter().map(|round| round.start).collect();
        starts.row("start of the process to all in the kernel");
        let changes: Times = rounds.iter().flat_map(|round| round.changes.all()).collect();
        changes.row("a slice's change, the API server's answer to the kernel");
        let median = |of: &dyn Fn(&Round) -> f64| quantile(&rounds.iter().map(of).collect::<Vec<_>>(), 50);
        note(&format!("RSS at rest {:.1} MiB", median(&|round| to_f64(round.memory.resident) / 1024.0)));
        note(&format!("processor time under {RATE} changes a second {:.1} %", median(&|round| round.load * 100.0)));
        medians.push(changes.percentile(90));
        println!();
    }
    let factor = medians[1].as_secs_f64() / medians[0].as_secs_f64();
    note(&format!("p90 of a change among {MANY} Services against {}: {factor:.2}x", SIZES[1]));
    Ok(())
}

/// Returns the median of netd-proxy's changes.
fn print(size: u32, both: [Contender; 2], rounds: &[Vec<Round>; 2]) -> Duration {
    head(&format!("{size} Services x {ENDPOINTS}"));
    let each = |label: &str, times: &dyn Fn(&[Round]) -> Times| {
        let all = [0, 1].map(|who| times(&rounds[who]));
        for (contender, times) in both.iter().zip(&all) {
            times.row(&format!("{label}, {}", contender.name()));
        }
        all
    };
    let starts =
        each("start of the process to all in the kernel", &|rounds| rounds.iter().map(|one| one.start).collect());
    let changes = each("a slice's change, the API server's answer to the kernel", &|rounds| {
        rounds.iter().flat_map(|round| round.changes.all()).collect()
    });
    let factor = |times: &[Times; 2], percent| {
        times[1].percentile(percent).as_secs_f64() / times[0].percentile(percent).as_secs_f64()
    };
    note(&format!("kube-proxy against netd-proxy: start {:.1}x", factor(&starts, 50)));
    note(&format!("change: p50 {:.0}x, max {:.0}x", factor(&changes, 50), factor(&changes, 100)));
    let row = |label: &str, unit: &str, of: &dyn Fn(&Round) -> f64| {
        let [ours, theirs] = [0, 1].map(|who| quantile(&rounds[who].iter().map(of).collect::<Vec<_>>(), 50));
        note(&format!("{label}: netd-proxy {ours:.1} {unit}, kube-proxy {theirs:.1} {unit}, {:.2}x", ours / theirs));
    };
    row("RSS at rest", "MiB", &|round| to_f64(round.memory.resident) / 1024.0);
    row("of that its own, not of its file", "MiB", &|round| to_f64(round.memory.anonymous) / 1024.0);
    row("RSS at its peak", "MiB", &|round| to_f64(round.memory.peak) / 1024.0);
    row(&format!("processor time under {RATE} changes a second"), "%", &|round| round.load * 100.0);
    row("changes that the API server accepted", "a second", &|round| round.rate);
    changes[0].median()
}

fn round(bed: &Bed, contender: Contender, change: &mut u32) -> Outcome<Round> {
    let mut notifications = Notifications::open(contender.namespace(bed))?;
    let begun = Instant::now();
    let running = contender.start(bed)?;
    // Services that no change of this benchmark has reached.
    let untouched = [bed.size - 1, bed.size / 2 + 1, bed.size - 3]
        .map(|number| *bed.slice(number).addresses.last().expect("a Service has endpoints"));
    notifications.await_all(&untouched, TIMEOUT)?;
    let start = notifications.await_silence(seconds(2))? - begun;
    running.process().rest()?;
    let changes = changes(bed, &running, &mut notifications, change)?;
    running.process().rest()?;
    let memory = running.process().memory()?;
    let before = running.process().cpu_with_children()?;
    let begun = Instant::now();
    let count = storm(bed, change, BUSY)?;
    let time = begun.elapsed();
    let load = running.process().cpu_with_children()?.saturating_sub(before).as_secs_f64() / time.as_secs_f64();
    let rate = f64::from(count) / time.as_secs_f64();
    let peak = running.process().memory()?.peak;
    drop(running);
    contender.clear(bed)?;
    // The kernel frees rules later and sends no notification; the next one must not pay for it.
    sleep(seconds(1));
    Ok(Round { start, changes, memory: Memory { peak, ..memory }, load, rate })
}

/// The slice that a change is made to, among the first half. Each change brings an address that was never there.
pub(super) fn next(bed: &Bed, change: u32) -> Slice {
    let mut slice = bed.slice(change * 47 % (bed.size / 2));
    let place = slice.addresses.len() / 2;
    slice.addresses[place] = objects::changed(change);
    slice
}

/// One endpoint after the other is replaced, from rest.
fn changes(bed: &Bed, running: &Running, notifications: &mut Notifications, change: &mut u32) -> Outcome<Times> {
    let mut times = Times::default();
    for _ in 0..CHANGES {
        *change += 1;
        let slice = next(bed, *change);
        sleep(PAUSE);
        running.process().rest()?;
        notifications.drain()?;
        bed.patch(&slice)?;
        let answered = Instant::now();
        let received = notifications.await_all(&[objects::changed(*change)], CHANGED)?;
        times.push(received.saturating_duration_since(answered));
    }
    Ok(times)
}

/// Replaces endpoints at the rate, for so long. Returns how many.
pub(super) fn storm(bed: &Bed, change: &mut u32, time: Duration) -> Outcome<u32> {
    let begun = Instant::now();
    let first = *change + 1;
    let due = AtomicU32::new(0);
    let write = || -> Outcome {
        loop {
            let number = due.fetch_add(1, Ordering::Relaxed);
            let at = seconds(1) * number / RATE;
            if at >= time || begun.elapsed() >= time + seconds(1) {
                due.fetch_sub(1, Ordering::Relaxed);
                return Ok(());
            }
            sleep(at.saturating_sub(begun.elapsed()));
            bed.patch(&next(bed, first + number))?;
        }
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        writers.into_iter().try_for_each(|writer| {
            writer.join().unwrap_or_else(|_| Err(Failure::new("a thread that changes endpoints broke")))
        })
    })?;
    let count = due.into_inner();
    *change = first + count;
    Ok(count)
}

/// What the kernel itself takes for one endpoint, in a table that holds as many.
fn raw(size: u32) -> Outcome<Times> {
    let key = |number: u32, place| {
        [
            Value::Address(objects::cluster_ip(number).into()),
            Value::Protocol(6),
            Value::Service(80),
            Value::Integer(place),
        ]
    };
    let data = |address: std::net::Ipv4Addr| Data::Values(vec![Value::Address(address.into()), Value::Service(8080)]);
    let address = Type::Address(types::Family::V4);
    let types = vec![address, Type::Protocol, Type::Service, Type::Integer];
    let set = Set::map(types, DataType::Values(vec![address, Type::Service]));
    let mut records = Records::of(&set).context("a map of endpoints")?;
    for number in 0..size {
        for (place, address) in (0..).zip(Slice::new(number).addresses) {
            records.insert(&key(number, place), Some(&data(address)), None).context("an endpoint")?;
        }
    }
    let table = Table::new(TableFamily::Ip, "raw").with_set("endpoints", set);
    let id = table.id.clone();
    let list = |records| RecordList { table: id.clone(), set: "endpoints".to_owned(), records };
    let mut socket = Socket::open().context("open a socket")?;
    socket
        .apply(&[Operation::ReplaceTable(table.clone()), Operation::AddRecords(list(records))])
        .context("fill a map")?;
    let mut times = Times::default();
    for change in 0..CHANGES {
        let number = change * 47 % size;
        let elements = |address| dataplane::nft::Elements {
            table: id.clone(),
            set: "endpoints".to_owned(),
            flags: dataplane::nft::SetFlags::default(),
            elements: [(
                key(number, 1).into_iter().collect::<Key>(),
                Element { data: Some(data(address)), ..Element::default() },
            )]
            .into(),
        };
        let begun = Instant::now();
        let operations = Operation::replace_elements(elements(objects::changed(change)));
        socket.apply(&operations).context("replace an endpoint")?;
        times.push(begun.elapsed());
    }
    socket.apply(&[Operation::DeleteTable(id.clone())]).context("remove a table")?;
    Ok(times)
}
