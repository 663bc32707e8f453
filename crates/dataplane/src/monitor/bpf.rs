//! Programs that drop notifications in the kernel, before they wake anybody (`SO_ATTACH_FILTER`: classic BPF, which needs no
//! capability).
//!
//! A program only saves work: an accepted notification is compared with the filter again. Where the kernel takes no program, every
//! notification is accepted. Classic BPF has no loops, and a load beyond the end of a datagram drops the datagram. Loads are
//! big-endian, while netlink's numbers are the host's, so constants are swapped.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use nix::libc::{self, BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_IND, BPF_LD, BPF_MISC, BPF_TAX, BPF_W, BPF_X, sock_filter};

use super::filter::{Devices, Filter, Routes, Tables};

/// `BPF_MAXINSNS`.
const MOST: usize = 4096;
/// How many messages of one datagram a program looks at. `nft_commit_notify` fills a datagram up to a page: about 55 elements,
/// or 90 of the shortest messages. Kernels before 6.8 allow 20 KiB of memory for a program (`net.core.optmem_max`), which is
/// enough for 16 messages; a datagram of more is accepted.
const MESSAGES: [usize; 4] = [128, 64, 32, 16];

// `RTM_NEW...` and `RTM_DEL...`.
const LINKS: [u16; 4] = [16, 17, 80, 81]; // and sysctls
const ROUTES: [u16; 2] = [24, 25];
const RULES: [u16; 2] = [32, 33];
const ADDRESSES_AND_NEIGHBOURS: [u16; 4] = [20, 21, 28, 29];
/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWGEN`.
const NEWGEN: u16 = 10 << 8 | 15;

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

const ACCEPT: sock_filter = instruction(libc::BPF_RET, u32::MAX);
const DROP: sock_filter = instruction(libc::BPF_RET, 0);

/// Attaches a program that accepts each notification of rtnetlink that the filter may want.
pub(super) fn attach_to_rtnetlink(socket: &impl AsRawFd, filter: &Filter) {
    let verdict = |is_wanted| if is_wanted { ACCEPT } else { DROP };
    let is_any_route_wanted = !matches!(&filter.routes, Routes::Within(prefixes) if prefixes.is_empty());
    let table = instruction(BPF_LD | BPF_B | BPF_ABS, offset::TABLE);
    let mut route = if_any(table, &[libc::RT_TABLE_MAIN.into()], vec![verdict(is_any_route_wanted)]);
    route.push(DROP);
    let device = match &filter.devices {
        Devices::All => vec![ACCEPT],
        Devices::Only { indexes, newest } => {
            let mut block: Vec<_> = load_host_word(offset::INDEX).collect();
            block.extend([jump(libc::BPF_JGT, *newest, 0, 1), ACCEPT]);
            block.extend(indexes.iter().flat_map(|index| [jump(libc::BPF_JEQ, *index, 0, 1), ACCEPT]));
            block.push(DROP);
            block
        }
    };
    // rtnetlink sends one message in a datagram.
    let mut program = if_of_type(&LINKS, vec![verdict(filter.links)]);
    program.extend(if_of_type(&ROUTES, route));
    program.extend(if_of_type(&RULES, vec![verdict(filter.rules)]));
    program.extend(if_of_type(&ADDRESSES_AND_NEIGHBOURS, device));
    program.push(ACCEPT);
    attach_first(socket, [program]);
}

/// Attaches a program that accepts each datagram of nftables in which the filter may want a message.
pub(super) fn attach_to_nftables(socket: &impl AsRawFd, filter: &Filter) {
    let Tables::Only(tables) = &filter.tables else { return attach_first(socket, []) };
    // Tables of one name are told apart by their families only.
    let mut names: BTreeMap<(&str, Option<u32>), Vec<u32>> = BTreeMap::new();
    for (id, table) in tables {
        names.entry((&id.name, table.own_port)).or_default().push(id.family.number().into());
    }
    let mut look: Vec<_> =
        names.iter().flat_map(|((name, own_port), families)| accept_table(name, families, *own_port)).collect();
    look.extend(next_message());
    let program = |messages| {
        let mut program = Vec::new();
        if filter.commits {
            program.extend(if_of_type(&[NEWGEN], vec![ACCEPT]));
        }
        // The place of the message at hand.
        program.push(instruction(libc::BPF_LDX | libc::BPF_IMM, 0));
        program.extend(std::iter::repeat_n(&look, messages).flatten());
        // Drops where the last message was the last of the datagram.
        program.extend([instruction(BPF_LD | BPF_B | BPF_IND, 0), ACCEPT]);
        program
    };
    attach_first(socket, MESSAGES.into_iter().map(program));
}

/// Accepts the datagram where the message at hand is of one of the tables of this name, and of another socket's request.
fn accept_table(name: &str, families: &[u32], own_port: Option<u32>) -> Vec<sock_filter> {
    let mut block = vec![ACCEPT];
    if let Some(port) = own_port {
        let port = u32::from_be_bytes(port.to_ne_bytes());
        block.splice(..0, [at(BPF_W, offset::PORT), jump(libc::BPF_JEQ, port, 1, 0)]);
    }
    block = if_any(at(BPF_B, offset::FAMILY), families, block);
    // An attribute is its length, its type (1), and the text with a zero at its end, all padded with zeros.
    let length = u16::try_from(4 + name.len() + 1).unwrap_or(u16::MAX);
    let mut attribute = [length.to_ne_bytes(), 1_u16.to_ne_bytes()].concat();
    attribute.extend(name.as_bytes());
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    // From the last word to the first: the length comes to be compared before anything behind a shorter name is loaded.
    let words: Vec<_> = attribute.chunks_exact(4).zip((offset::NAME..).step_by(4)).collect();
    for (word, place) in words.into_iter().rev() {
        let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        block = if_any(at(BPF_W, place), &[word], block);
    }
    block
}

/// Moves on by the length of the message at hand.
fn next_message() -> Vec<sock_filter> {
    use libc::{BPF_ADD, BPF_AND, BPF_MUL, BPF_RSH};
    let mut next = if cfg!(target_endian = "big") {
        vec![at(BPF_W, 0)]
    } else {
        // A datagram is shorter than 64 KiB. `ab` times 0x10001 is `abab`, in the midst of which is `ba`.
        vec![
            at(BPF_H, 0),
            instruction(BPF_ALU | BPF_MUL, 0x1_0001),
            instruction(BPF_ALU | BPF_RSH, 8),
            instruction(BPF_ALU | BPF_AND, 0xffff),
        ]
    };
    next.extend([
        instruction(BPF_ALU | BPF_ADD, 3),
        instruction(BPF_ALU | BPF_AND, !3),
        instruction(BPF_ALU | BPF_ADD | BPF_X, 0),
        instruction(BPF_MISC | BPF_TAX, 0),
    ]);
    next
}

#[expect(clippy::cast_possible_truncation, reason = "opcodes have 16 bits")]
const fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Loads a field of the message at hand.
fn at(size: u32, offset: u32) -> sock_filter {
    instruction(BPF_LD | size | BPF_IND, offset)
}

/// Loads a number of the host's.
fn load_host_word(at: u32) -> impl Iterator<Item = sock_filter> {
    let bytes = if cfg!(target_endian = "big") { [0, 1, 2, 3] } else { [3, 2, 1, 0] };
    // The bytes so far move up and into X; the next one joins them.
    let zero = instruction(BPF_LD | libc::BPF_IMM, 0);
    let join = move |byte| {
        [
            instruction(BPF_ALU | libc::BPF_LSH, 8),
            instruction(BPF_MISC | BPF_TAX, 0),
            instruction(BPF_LD | BPF_B | BPF_ABS, at + byte),
            instruction(BPF_ALU | libc::BPF_OR | BPF_X, 0),
        ]
    };
    std::iter::once(zero).chain(bytes.into_iter().flat_map(join))
}

/// Goes on with `block` where the datagram's first message is of one of these types, and behind the block otherwise.
fn if_of_type(types: &[u16], block: Vec<sock_filter>) -> Vec<sock_filter> {
    let types: Vec<_> = types.iter().map(|number| u16::from_be_bytes(number.to_ne_bytes()).into()).collect();
    if_any(instruction(BPF_LD | BPF_H | BPF_ABS, offset::TYPE), &types, block)
}

/// Goes on with `block` where a load gives one of the numbers, and behind the block otherwise.
fn if_any(load: sock_filter, numbers: &[u32], block: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut program = vec![load];
    for (number, left) in numbers.iter().zip((0..numbers.len()).rev()) {
        program.push(jump(libc::BPF_JEQ, *number, left, if left == 0 { block.len() } else { 0 }));
    }
    program.extend(block);
    program
}

/// A jump too far for its 8 bits makes an opcode that the kernel refuses, so that every notification is accepted.
fn jump(condition: u32, k: u32, then: usize, otherwise: usize) -> sock_filter {
    match (u8::try_from(then), u8::try_from(otherwise)) {
        (Ok(jt), Ok(jf)) => sock_filter { jt, jf, ..instruction(libc::BPF_JMP | condition, k) },
        _ => instruction(u32::from(u16::MAX), 0),
    }
}

/// Attaches the first of these programs that the kernel takes, in the place of the one that is attached.
fn attach_first(socket: &impl AsRawFd, programs: impl IntoIterator<Item = Vec<sock_filter>>) {
    // The kernel counts the former program's memory until it is gone.
    set(socket, libc::SO_DETACH_FILTER, &[]);
    programs
        .into_iter()
        .filter(|program| program.len() <= MOST)
        .any(|program| set(socket, libc::SO_ATTACH_FILTER, &program));
}

/// True where the kernel has taken the option.
fn set(socket: &impl AsRawFd, option: i32, program: &[sock_filter]) -> bool {
    let Ok(len) = u16::try_from(program.len()) else { return false };
    let value = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    #[expect(clippy::cast_possible_truncation, reason = "the size of two words")]
    let bytes = size_of_val(&value) as libc::socklen_t;
    #[expect(unsafe_code, reason = "a socket option that holds a pointer")]
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call, and writes nothing.
    let code =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), bytes) };
    code == 0
}
