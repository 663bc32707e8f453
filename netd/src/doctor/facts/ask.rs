//! Asks all peers at once, within two seconds: who answers, how large a packet arrives, and whether checksums do.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use dataplane::probe::{self, Checksum, Echo, Reply};
use dataplane::types::Family;
use network::model::NodeName;

use crate::doctor::peers::{Answer, Question, Questions};

/// A round ends as soon as all have answered. The first packet to a neighbour, or beyond a path that is too narrow, may be
/// lost while the kernel learns of it, so who is silent is asked again.
const ROUNDS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(700)];
const SIZES_WITHIN: Duration = Duration::from_millis(400);
const CHECKSUMS_WITHIN: Duration = Duration::from_millis(200);
/// Enough to go through unless everything else is blocked.
const SMALL: u32 = 64;
/// MTUs as they occur, from the largest: what other tunnels, clouds and links leave, with and without VXLAN's headers.
const USUAL: [u32; 17] =
    [8900, 8000, 1480, 1460, 1450, 1430, 1410, 1400, 1380, 1370, 1350, 1330, 1300, 1280, 1230, 1000, 576];
/// A device that spoils checksums spoils them for all: a few are enough to see it.
const SAMPLE: usize = 64;

/// Asks, and gives an answer for each question.
pub(super) fn all(questions: &Questions) -> io::Result<BTreeMap<(NodeName, Family), Answer>> {
    let questions: Vec<_> = questions.iter().collect();
    let mut answers = vec![Answer::default(); questions.len()];
    greet(&questions, &mut answers)?;
    measure(&questions, &mut answers)?;
    compare_checksums(&questions, &mut answers)?;
    Ok(questions.into_iter().map(|(key, _)| key.clone()).zip(answers).collect())
}

type Asked<'q> = (&'q (NodeName, Family), &'q Question);
/// Which field of an answer an echo is for.
type Field = fn(&mut Answer) -> &mut bool;

/// Small and large packets, along the pods' way and on the underlay.
fn greet(questions: &[Asked<'_>], answers: &mut [Answer]) -> io::Result<()> {
    for within in ROUNDS {
        let mut echoes = Vec::new();
        let mut fields: Vec<(usize, Field)> = Vec::new();
        for (place, ((_, question), answer)) in questions.iter().zip(answers.iter_mut()).enumerate() {
            let Question { inner: (inner, _), outer, from, inner_bytes, outer_bytes, .. } = **question;
            let asks: [(Field, Echo); 4] = [
                (|answer| &mut answer.inner, Echo { to: inner, from, bytes: SMALL }),
                (|answer| &mut answer.inner_full, Echo { to: inner, from, bytes: inner_bytes }),
                (|answer| &mut answer.outer, Echo { to: outer, from: None, bytes: SMALL }),
                (|answer| &mut answer.outer_full, Echo { to: outer, from: None, bytes: outer_bytes }),
            ];
            for (field, echo) in asks {
                if !*field(answer) {
                    echoes.push(echo);
                    fields.push((place, field));
                }
            }
        }
        for ((place, field), reply) in fields.into_iter().zip(probe::echoes(&echoes, within)?) {
            *field(&mut answers[place]) = reply == Reply::Answered;
        }
    }
    Ok(())
}

/// Where small packets arrive and the largest does not: which do.
fn measure(questions: &[Asked<'_>], answers: &mut [Answer]) -> io::Result<()> {
    let (mut echoes, mut places) = (Vec::new(), Vec::new());
    for (place, ((_, question), answer)) in questions.iter().zip(answers.iter_mut()).enumerate() {
        if !answer.outer_full {
            answer.path_mtu = probe::path_mtu(question.outer, None).ok();
        }
        if answer.inner && !answer.inner_full {
            let sizes = USUAL.into_iter().filter(|size| *size < question.inner_bytes);
            let (to, from) = (question.inner.0, question.from);
            echoes.extend(sizes.map(|bytes| Echo { to, from, bytes }));
            places.resize(echoes.len(), place);
        }
    }
    let replies = probe::echoes(&echoes, SIZES_WITHIN)?;
    for ((echo, place), reply) in echoes.iter().zip(places).zip(replies) {
        if reply == Reply::Answered {
            let passes = &mut answers[place].inner_passes;
            *passes = (*passes).max(Some(echo.bytes));
        }
    }
    Ok(())
}

/// NetlinkSocket to a closed port, which the peer's kernel refuses where they arrive whole.
fn compare_checksums(questions: &[Asked<'_>], answers: &mut [Answer]) -> io::Result<()> {
    let asked = questions.iter().zip(&*answers).enumerate();
    // IPv6 knows no datagram without a checksum to compare with.
    let through_tunnel = asked.filter(|(_, (((_, family), question), answer))| {
        *family == Family::V4 && answer.inner && !question.way.is_direct()
    });
    let (places, mut to): (Vec<usize>, Vec<(Option<IpAddr>, IpAddr)>) = through_tunnel
        .take(SAMPLE)
        .map(|(place, ((_, question), _))| (place, (question.from, question.inner.0)))
        .unzip();
    let with = probe::refusals(&to, Checksum::Present, CHECKSUMS_WITHIN)?;
    let mut suspects: Vec<usize> = places;
    let mut silent = with.iter().map(|refused| !refused);
    suspects.retain(|_| silent.next().unwrap_or(false));
    let mut silent = with.iter().map(|refused| !refused);
    to.retain(|_| silent.next().unwrap_or(false));
    let without = probe::refusals(&to, Checksum::Absent, CHECKSUMS_WITHIN)?;
    for (place, refused) in suspects.into_iter().zip(without) {
        answers[place].spoilt = refused;
    }
    Ok(())
}
