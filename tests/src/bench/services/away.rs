//! An API server that is away for an hour: what was known stays served, nothing grows, and what changed meanwhile follows. Only netd-proxy.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Instant;

use super::contender::Contender;
use super::notifications::Notifications;
use super::objects::{self, PORT, Slice, TARGET};
use super::{Bed, SIZES, change};
use crate::bench::figures::{note, to_f64};
use crate::deadline::{seconds, sleep};
use crate::failure::{Context, Outcome};

/// Its endpoint answers.
const SERVICE: u32 = 7;

/// Prints the figures.
pub(super) fn measure() -> Outcome {
    let minutes = super::minutes(60);
    let mut bed = Bed::new()?;
    let endpoint = bed.node("n3").first_address();
    let listener = bed.node("n3").namespace().within(|| TcpListener::bind((endpoint, TARGET)))?;
    let _listener = listener.context("serve requests")?;
    bed.fill(SIZES[1])?;
    let IpAddr::V4(address) = endpoint else { crate::fail!("the machines have IPv4 addresses") };
    bed.patch(&Slice { number: SERVICE, addresses: vec![address] })?;
    let contender = Contender::Netd;
    let mut notifications = Notifications::open(contender.namespace(&bed))?;
    let running = contender.start(&bed)?;
    notifications.await_all(&bed.slice(bed.size - 1).addresses, seconds(60))?;
    notifications.await_silence(seconds(2))?;
    running.process().rest()?;
    let before = running.process().memory()?;
    let path = contender.log(&bed);
    let log = || std::fs::read_to_string(&path).context("read the log");
    let logged = log()?.lines().count();

    bed.server.stop()?;
    let cpu = running.process().cpu()?;
    let (begun, mut connected) = (Instant::now(), 0);
    for _ in 0..minutes {
        sleep(seconds(60));
        let to = (objects::cluster_ip(SERVICE), PORT).into();
        let once = || TcpStream::connect_timeout(&to, seconds(5)).is_ok();
        connected += u32::from(contender.namespace(&bed).within(once)?);
    }
    let (time, spent) = (begun.elapsed(), running.process().cpu()?.saturating_sub(cpu));
    let after = running.process().memory()?;
    notifications.drain()?;

    bed.server.resume()?;
    let slice = change::next(&bed, 1);
    bed.patch(&slice)?;
    let answered = Instant::now();
    let received = notifications.await_all(&[objects::changed(1)], seconds(120))?;
    let mib = |kib| to_f64(kib) / 1024.0;
    println!("the API server is away for {:.0} minutes, {} Services", time.as_secs_f64() / 60.0, bed.size);
    note(&format!("new connections through a Service meanwhile, one a minute: {connected} of {minutes}"));
    note(&format!("RSS: {:.1} MiB before, {:.1} at the end", mib(before.resident), mib(after.resident)));
    note(&format!("processor time: {:.2} s", spent.as_secs_f64()));
    note(&format!(
        "a change after its return is in the kernel {:.1} s after the API server's answer",
        received.saturating_duration_since(answered).as_secs_f64()
    ));
    for line in log()?.lines().skip(logged) {
        note(&format!("log: {line}"));
    }
    crate::ensure!(connected == minutes, "connections failed");
    Ok(())
}
