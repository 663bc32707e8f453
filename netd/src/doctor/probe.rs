//! Asks all peers at once, within two seconds: who answers, how large a packet arrives, and whether checksums are right.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use dataplane::probe::{self, Checksum, Echo, Reply};
use dataplane::types::{Family, IfName};
use network::backend::PeerRoute;
use network::model::NodeName;

/// What to ask a peer about the route to its pods of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The route.
    pub route: PeerRoute,
    /// The device that packets to its pods leave by.
    pub device: IfName,
    /// An address of the peer inside the pod network, and whether it exists for sure: a bridge is made with the first pod.
    pub inner: (IpAddr, bool),
    /// The address of this node in the pod network to ask from, if there is one.
    pub from: Option<IpAddr>,
    /// The largest packet that pods may send along the route.
    pub inner_bytes: u32,
    /// The peer's address on the underlay.
    pub outer: IpAddr,
    /// The largest packet that the underlay then has to carry.
    pub outer_bytes: u32,
}

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an echo that came back or did not")]
pub(super) struct Answer {
    /// A small packet to the address in the pod network was answered.
    pub inner: bool,
    /// The largest packet there was answered.
    pub inner_full: bool,
    /// The largest size that was answered, if the largest of all was not.
    pub inner_passes: Option<u32>,
    /// A small packet on the underlay was answered.
    pub outer: bool,
    /// The largest packet there was answered.
    pub outer_full: bool,
    /// The path MTU of the underlay, if the kernel knows one.
    pub path_mtu: Option<u32>,
    /// Datagrams without a checksum arrive, and datagrams with one do not.
    pub spoilt: bool,
}

/// Questions by peer and family of pods.
pub(super) type Questions = BTreeMap<(NodeName, Family), Question>;

/// A round ends as soon as all peers have answered. Silent peers are asked again: the first packet may be lost while the kernel learns the
/// neighbour or the path MTU.
const ROUNDS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(700)];
const SIZES_WITHIN: Duration = Duration::from_millis(400);
const CHECKSUMS_WITHIN: Duration = Duration::from_millis(200);
/// Enough to go through unless everything else is blocked.
const SMALL: u32 = 64;
/// MTUs as they occur, from the largest: what other tunnels, clouds and links leave, with and without VXLAN's headers.
const USUAL: [u32; 17] =
    [8900, 8000, 1480, 1460, 1450, 1430, 1410, 1400, 1380, 1370, 1350, 1330, 1300, 1280, 1230, 1000, 576];
/// A device that makes wrong checksums does so for all peers: a few are enough to see it.
const SAMPLE: usize = 64;

/// Asks the peers. Gives an answer for each question.
pub(super) fn ask(questions: &Questions) -> io::Result<BTreeMap<(NodeName, Family), Answer>> {
    let questions: Vec<_> = questions.iter().collect();
    let mut answers = vec![Answer::default(); questions.len()];
    ask_small_and_large(&questions, &mut answers)?;
    measure(&questions, &mut answers)?;
    compare_checksums(&questions, &mut answers)?;
    Ok(questions.into_iter().map(|(key, _)| key.clone()).zip(answers).collect())
}

type Asked<'q> = (&'q (NodeName, Family), &'q Question);
/// Which field of an answer an echo is for.
type Field = fn(&mut Answer) -> &mut bool;

/// Those of the echoes that were answered.
fn answered<T>(asks: Vec<(T, Echo)>, within: Duration) -> io::Result<impl Iterator<Item = (T, Echo)>> {
    let echoes: Vec<Echo> = asks.iter().map(|(_, echo)| *echo).collect();
    let replies = probe::echoes(&echoes, within)?;
    Ok(asks.into_iter().zip(replies).filter(|(_, reply)| *reply == Reply::Answered).map(|(ask, _)| ask))
}

/// Small and large packets, along the pods' route and on the underlay.
fn ask_small_and_large(questions: &[Asked<'_>], answers: &mut [Answer]) -> io::Result<()> {
    for within in ROUNDS {
        let mut asks: Vec<((usize, Field), Echo)> = Vec::new();
        for (place, ((_, question), answer)) in questions.iter().zip(answers.iter_mut()).enumerate() {
            let Question { inner: (inner, _), outer, from, inner_bytes, outer_bytes, .. } = **question;
            let all: [(Field, Echo); 4] = [
                (|answer| &mut answer.inner, Echo { to: inner, from, bytes: SMALL }),
                (|answer| &mut answer.inner_full, Echo { to: inner, from, bytes: inner_bytes }),
                (|answer| &mut answer.outer, Echo { to: outer, from: None, bytes: SMALL }),
                (|answer| &mut answer.outer_full, Echo { to: outer, from: None, bytes: outer_bytes }),
            ];
            let silent = all.into_iter().filter(|(field, _)| !*field(answer));
            asks.extend(silent.map(|(field, echo)| ((place, field), echo)));
        }
        for ((place, field), _) in answered(asks, within)? {
            *field(&mut answers[place]) = true;
        }
    }
    Ok(())
}

/// If small packets arrive and the largest does not: finds the largest that arrives.
fn measure(questions: &[Asked<'_>], answers: &mut [Answer]) -> io::Result<()> {
    let mut asks = Vec::new();
    for (place, ((_, question), answer)) in questions.iter().zip(answers.iter_mut()).enumerate() {
        if !answer.outer_full {
            answer.path_mtu = probe::path_mtu(question.outer, None).ok();
        }
        if answer.inner && !answer.inner_full {
            let sizes = USUAL.into_iter().filter(|size| *size < question.inner_bytes);
            let (to, from) = (question.inner.0, question.from);
            asks.extend(sizes.map(|bytes| (place, Echo { to, from, bytes })));
        }
    }
    for (place, echo) in answered(asks, SIZES_WITHIN)? {
        let passes = &mut answers[place].inner_passes;
        *passes = (*passes).max(Some(echo.bytes));
    }
    Ok(())
}

/// Datagrams to a closed port. The peer's kernel refuses those that arrive with a right checksum.
fn compare_checksums(questions: &[Asked<'_>], answers: &mut [Answer]) -> io::Result<()> {
    let asked = questions.iter().zip(&*answers).enumerate();
    // IPv6 knows no datagram without a checksum to compare with.
    let through_tunnel = asked.filter(|(_, (((_, family), question), answer))| {
        *family == Family::V4 && answer.inner && !question.route.is_direct()
    });
    let asked = through_tunnel.map(|(place, ((_, question), _))| (place, (question.from, question.inner.0)));
    let mut suspects: Vec<(usize, (Option<IpAddr>, IpAddr))> = asked.take(SAMPLE).collect();
    let refusals = |suspects: &[(usize, _)], checksum| {
        let to: Vec<_> = suspects.iter().map(|(_, to)| *to).collect();
        probe::refusals(&to, checksum, CHECKSUMS_WITHIN)
    };
    let mut with = refusals(&suspects, Checksum::Present)?.into_iter();
    suspects.retain(|_| with.next() == Some(false));
    let without = refusals(&suspects, Checksum::Absent)?;
    for ((place, _), refused) in suspects.into_iter().zip(without) {
        answers[place].spoilt = refused;
    }
    Ok(())
}
