//! Programs that drop notifications in the kernel, before they wake anybody (`SO_ATTACH_FILTER`: classic BPF, which needs no
//! capability).
//!
//! A program only saves work: an accepted notification is compared with the filters again. Classic BPF has no loops, and a load beyond the end of
//! a datagram drops the datagram. Loads are big-endian, while netlink's numbers are the host's, so constants are swapped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{self, sock_filter};

use super::filter::{Devices, Filter, Tables};
use crate::nft::TableId;

/// `BPF_MAXINSNS`.
const MOST: usize = 4096;
/// How many messages of one datagram a program looks at. `nft_commit_notify` fills a datagram up to a page: about 55 elements,
/// or 90 of the shortest messages. Kernels before 6.8 allow 20 KiB of memory for a program (`net.core.optmem_max`), which is
/// enough for 16 messages; a datagram of more is accepted.
const MESSAGES: [usize; 4] = [128, 64, 32, 16];

/// `RTM_NEWLINK` and so on; `RTM_DEL...` is one more.
mod kind {
    pub(super) const LINK: u16 = 16;
    pub(super) const ADDRESS: u16 = 20;
    pub(super) const ROUTE: u16 = 24;
    pub(super) const NEIGHBOUR: u16 = 28;
    pub(super) const NETCONF: u16 = 80;
}

/// Offsets in a message.
mod offset {
    /// `nlmsghdr.nlmsg_type`.
    pub(super) const TYPE: u32 = 4;
    /// `nlmsghdr.nlmsg_pid`.
    pub(super) const PORT: u32 = 12;
    /// `nfgenmsg.nfgen_family`.
    pub(super) const FAMILY: u32 = 16;
    /// `ndmsg.ndm_ifindex` and `ifaddrmsg.ifa_index`.
    pub(super) const INDEX: u32 = 20;
    /// `rtmsg.rtm_table`.
    pub(super) const TABLE: u32 = 20;
    /// The first attribute of a message of nftables: the table's name, whatever the message is about.
    pub(super) const NAME: u32 = 20;
}

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWGEN`.
const NEWGEN: u16 = 10 << 8 | 15;

/// What the program of the rtnetlink socket accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Routing {
    links: bool,
    routes: bool,
    devices: Devices,
}

/// A name of tables, with the port of the socket whose changes are not wanted.
type Name = (String, Option<u32>);

/// What the program of the nftables socket accepts: names of tables with their families.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ruleset {
    commits: bool,
    tables: BTreeMap<Name, BTreeSet<u8>>,
}

/// The attached programs; `None` where every notification is accepted.
#[derive(Debug, Default)]
pub(super) struct Programs {
    routing: Option<Routing>,
    ruleset: Option<Ruleset>,
}

impl Programs {
    /// Attaches programs that accept every notification that one of the filters wants.
    pub(super) fn attach(&mut self, filters: &[&Filter], rtnetlink: &impl AsRawFd, nftables: &impl AsRawFd) {
        let routing = Some(Routing::of(filters));
        if self.routing != routing {
            let attached = routing.as_ref().is_some_and(|routing| replace(rtnetlink, &[routing.program()]));
            self.routing = routing.filter(|_| attached);
        }
        let ruleset = Ruleset::of(filters);
        if self.ruleset != ruleset {
            let programs = ruleset.iter().flat_map(|ruleset| MESSAGES.map(|messages| ruleset.program(messages)));
            let attached = replace(nftables, &programs.collect::<Vec<_>>());
            self.ruleset = ruleset.filter(|_| attached);
        }
    }
}

impl Routing {
    fn of(filters: &[&Filter]) -> Self {
        let devices = filters.iter().map(|filter| filter.devices.clone()).reduce(|one, other| match (one, other) {
            (Devices::Only { mut indexes, newest }, Devices::Only { indexes: more, newest: other }) => {
                indexes.extend(more);
                Devices::Only { indexes, newest: newest.min(other) }
            }
            _ => Devices::All,
        });
        Self {
            links: filters.iter().any(|filter| filter.links),
            routes: filters.iter().any(|filter| !filter.routes.is_none()),
            devices: devices.unwrap_or_default(),
        }
    }

    /// rtnetlink sends one message in a datagram.
    fn program(&self) -> Vec<sock_filter> {
        let only = |kinds: &[u16], test: Vec<sock_filter>| {
            let mut block = vec![load_half(offset::TYPE)];
            let ends = kinds.iter().flat_map(|kind| [*kind, kind + 1]).collect::<Vec<_>>();
            let within = test.len();
            for (place, kind) in ends.iter().enumerate() {
                let left = ends.len() - 1 - place;
                block.push(if_equal(wire_half(*kind), left, if left == 0 { within } else { 0 }));
            }
            block.extend(test);
            block
        };
        let verdict = |is_wanted| if is_wanted { ACCEPT } else { DROP };
        let main_table = u32::from(libc::RT_TABLE_MAIN);
        let route = [load_byte(offset::TABLE), if_equal(main_table, 0, 1), verdict(self.routes), DROP];
        let mut device = Vec::new();
        if let Devices::Only { indexes, newest } = &self.devices {
            device.extend(load_host_word(offset::INDEX));
            device.extend([if_greater(*newest, 0, 1), ACCEPT]);
            device.extend(indexes.iter().flat_map(|index| [if_equal(*index, 0, 1), ACCEPT]));
            device.push(DROP);
        } else {
            device.push(ACCEPT);
        }
        let mut program = only(&[kind::LINK, kind::NETCONF], vec![verdict(self.links)]);
        program.extend(only(&[kind::ROUTE], route.to_vec()));
        program.extend(only(&[kind::ADDRESS, kind::NEIGHBOUR], device));
        program.push(ACCEPT);
        program
    }
}

impl Ruleset {
    fn of(filters: &[&Filter]) -> Option<Self> {
        let mut wanted: BTreeMap<&TableId, Option<u32>> = BTreeMap::new();
        for filter in filters {
            let Tables::Only(tables) = &filter.tables else { return None };
            for (id, table) in tables {
                // What one subscriber has changed itself may be news to another one.
                let port = wanted.entry(id).or_insert(table.own_port);
                *port = port.filter(|_| *port == table.own_port);
            }
        }
        let mut tables: BTreeMap<Name, BTreeSet<u8>> = BTreeMap::new();
        for (id, port) in wanted {
            tables.entry((id.name.clone(), port)).or_default().insert(id.family.number());
        }
        Some(Self { commits: filters.iter().any(|filter| filter.commits), tables })
    }

    /// Walks over the first `messages` messages of a datagram; accepts it where one is of a wanted table, or where there
    /// are more messages.
    fn program(&self, messages: usize) -> Vec<sock_filter> {
        let mut program = Vec::new();
        if self.commits {
            program.extend([load_half(offset::TYPE), if_equal(wire_half(NEWGEN), 0, 1), ACCEPT]);
        }
        let mut look: Vec<_> = self.tables.iter().flat_map(|(name, families)| test(name, families)).collect();
        look.extend(next_message());
        // The place of the message at hand.
        program.push(instruction(libc::BPF_LDX | libc::BPF_IMM, 0));
        for _ in 0..messages {
            program.extend(&look);
        }
        // Drops where the last message was the last of the datagram.
        program.extend([load(libc::BPF_B, libc::BPF_IND, 0), ACCEPT]);
        program
    }
}

/// Accepts the datagram where the message at hand is of one of the tables of this name and of another socket's request.
fn test((name, own_port): &Name, families: &BTreeSet<u8>) -> Vec<sock_filter> {
    let field = |size, at| load(size, libc::BPF_IND, at);
    // An attribute is its length, its type (1), and the text with a zero at its end, all padded with zeros.
    let length = u16::try_from(4 + name.len() + 1).unwrap_or(u16::MAX);
    let mut attribute = [length.to_ne_bytes(), 1_u16.to_ne_bytes()].concat();
    attribute.extend(name.as_bytes());
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    // Each comparison by what it compares, and whether to go on where the two are equal.
    let mut comparisons = Vec::new();
    for (word, at) in attribute.chunks_exact(4).zip((offset::NAME..).step_by(4)) {
        let wanted = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        comparisons.push((field(libc::BPF_W, at), vec![wanted], true));
    }
    let of_family = families.iter().map(|family| u32::from(*family)).collect();
    comparisons.push((field(libc::BPF_B, offset::FAMILY), of_family, true));
    if let Some(port) = own_port {
        comparisons.push((field(libc::BPF_W, offset::PORT), vec![u32::from_be_bytes(port.to_ne_bytes())], false));
    }
    let mut block = vec![ACCEPT];
    for (load, wanted, goes_on) in comparisons.into_iter().rev() {
        let mut compared = vec![load];
        for place in 0..wanted.len() {
            let left = wanted.len() - 1 - place;
            let end = left + block.len();
            let (equal, other) = if goes_on { (left, if left == 0 { end } else { 0 }) } else { (end, 0) };
            compared.push(if_equal(wanted[place], equal, other));
        }
        compared.extend(block);
        block = compared;
    }
    block
}

/// Moves on by the length of the message at hand.
fn next_message() -> Vec<sock_filter> {
    use libc::{BPF_ADD, BPF_ALU, BPF_AND, BPF_MISC, BPF_MUL, BPF_RSH, BPF_TAX, BPF_X};
    let mut next = Vec::new();
    if cfg!(target_endian = "big") {
        next.push(load(libc::BPF_W, libc::BPF_IND, 0));
    } else {
        // A datagram is shorter than 64 KiB. `ab` times 0x10001 is `abab`, in the midst of which is `ba`.
        next.push(load(libc::BPF_H, libc::BPF_IND, 0));
        next.push(instruction(BPF_ALU | BPF_MUL, 0x1_0001));
        next.push(instruction(BPF_ALU | BPF_RSH, 8));
        next.push(instruction(BPF_ALU | BPF_AND, 0xffff));
    }
    next.push(instruction(BPF_ALU | BPF_ADD, 3));
    next.push(instruction(BPF_ALU | BPF_AND, !3));
    next.push(instruction(BPF_ALU | BPF_ADD | BPF_X, 0));
    next.push(instruction(BPF_MISC | BPF_TAX, 0));
    next
}

const ACCEPT: sock_filter = instruction(libc::BPF_RET, u32::MAX);
const DROP: sock_filter = instruction(libc::BPF_RET, 0);

#[expect(clippy::cast_possible_truncation, reason = "opcodes have 16 bits")]
const fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(size: u32, mode: u32, at: u32) -> sock_filter {
    instruction(libc::BPF_LD | size | mode, at)
}

fn load_byte(at: u32) -> sock_filter {
    load(libc::BPF_B, libc::BPF_ABS, at)
}

fn load_half(at: u32) -> sock_filter {
    load(libc::BPF_H, libc::BPF_ABS, at)
}

/// Loads a number of the host's.
fn load_host_word(at: u32) -> Vec<sock_filter> {
    if cfg!(target_endian = "big") {
        return vec![load(libc::BPF_W, libc::BPF_ABS, at)];
    }
    let mut steps = vec![load_byte(at + 3)];
    for place in [2, 1, 0] {
        steps.push(instruction(libc::BPF_ALU | libc::BPF_LSH, 8));
        steps.push(instruction(libc::BPF_MISC | libc::BPF_TAX, 0));
        steps.push(load_byte(at + place));
        steps.push(instruction(libc::BPF_ALU | libc::BPF_OR | libc::BPF_X, 0));
    }
    steps
}

/// A number of the host's as a load gives it.
fn wire_half(number: u16) -> u32 {
    u32::from(u16::from_be_bytes(number.to_ne_bytes()))
}

fn if_equal(k: u32, equal: usize, other: usize) -> sock_filter {
    jump(libc::BPF_JEQ, k, equal, other)
}

fn if_greater(k: u32, greater: usize, other: usize) -> sock_filter {
    jump(libc::BPF_JGT, k, greater, other)
}

/// A jump too far for its 8 bits makes an opcode that the kernel refuses, so that every notification is accepted.
fn jump(condition: u32, k: u32, then: usize, otherwise: usize) -> sock_filter {
    match (u8::try_from(then), u8::try_from(otherwise)) {
        (Ok(jt), Ok(jf)) => sock_filter { jt, jf, ..instruction(libc::BPF_JMP | condition, k) },
        _ => instruction(u32::from(u16::MAX), 0),
    }
}

/// Attaches the first of these programs that the kernel takes; false where it takes none.
fn replace(socket: &impl AsRawFd, programs: &[Vec<sock_filter>]) -> bool {
    // The kernel counts the former program's memory until it is gone.
    let _ = set(socket, libc::SO_DETACH_FILTER, &[]);
    let fits = programs.iter().filter(|program| program.len() <= MOST);
    fits.into_iter().any(|program| set(socket, libc::SO_ATTACH_FILTER, program).is_ok())
}

fn set(socket: &impl AsRawFd, option: i32, program: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let value = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let bytes = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "a socket option that holds a pointer")]
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call, and writes nothing.
    let code =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), bytes) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
