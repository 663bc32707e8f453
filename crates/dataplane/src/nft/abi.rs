//! Numbers of `linux/netfilter/nf_tables.h` and `nfnetlink.h`, named as there without their prefix.

/// Makes a module of each group of numbers.
macro_rules! numbers {
    ($($(#[$doc:meta])* $group:ident: $kind:ty { $($name:ident = $number:literal),+ $(,)? })+) => {
        $($(#[$doc])* pub(super) mod $group { $(pub(in crate::nft) const $name: $kind = $number;)+ })+
    };
}

pub(super) const SUBSYSTEM: u8 = 10;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
/// The name of the table in every message about an object (`NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, ...).
pub(super) const TABLE: u16 = 1;
/// A member of a list (`NFTA_LIST_ELEM`).
pub(super) const LIST_ELEM: u16 = 1;
/// The register that an expression loads into (`NFTA_META_DREG`, `NFTA_PAYLOAD_DREG`, ...).
pub(super) const DREG: u16 = 1;
/// `NFT_REG_VERDICT`.
pub(super) const REGISTER_VERDICT: u32 = 0;

numbers! {
    /// Message types, without the subsystem.
    message: u8 {
        NEWTABLE = 0, GETTABLE = 1, DELTABLE = 2, NEWCHAIN = 3, GETCHAIN = 4, DELCHAIN = 5, NEWRULE = 6, GETRULE = 7,
        DELRULE = 8, NEWSET = 9, GETSET = 10, DELSET = 11, NEWSETELEM = 12, GETSETELEM = 13, DELSETELEM = 14,
        NEWGEN = 15, GETGEN = 16, NEWOBJ = 18, DELOBJ = 20, NEWFLOWTABLE = 22, DELFLOWTABLE = 24,
    }
    table: u16 { FLAGS = 2, USERDATA = 6 }
    table_flag: u32 { DORMANT = 0x1 }
    chain: u16 { NAME = 3, HOOK = 4, POLICY = 5, TYPE = 7 }
    hook: u16 { HOOKNUM = 1, PRIORITY = 2, DEV = 3, DEVS = 4 }
    hook_device: u16 { NAME = 1 }
    rule: u16 { CHAIN = 2, HANDLE = 3, EXPRESSIONS = 4, USERDATA = 7 }
    set: u16 {
        NAME = 2, FLAGS = 3, KEY_TYPE = 4, KEY_LEN = 5, DATA_TYPE = 6, DATA_LEN = 7, DESC = 9, ID = 10, TIMEOUT = 11,
        USERDATA = 13, EXPRESSION = 17,
    }
    set_desc: u16 { SIZE = 1, CONCAT = 2 }
    set_field: u16 { LEN = 1 }
    /// Flags that follow from the rest of a set.
    set_flag: u32 { MAP = 0x8, CONCAT = 0x80 }
    /// Types of a map's data that `nft` does not number.
    set_data: u32 { VERDICT = 0xffff_ff00 }
    element_list: u16 { SET = 2, ELEMENTS = 3, SET_ID = 4 }
    element: u16 {
        KEY = 1, DATA = 2, FLAGS = 3, TIMEOUT = 4, EXPIRATION = 5, USERDATA = 6, EXPRESSION = 7, KEY_END = 10,
    }
    element_flag: u32 { INTERVAL_END = 0x1, CATCHALL = 0x2 }
    data: u16 { VALUE = 1, VERDICT = 2 }
    verdict: u16 { CODE = 1, CHAIN = 2 }
    /// `NF_*` and `NFT_*`.
    verdict_code: i32 { DROP = 0, ACCEPT = 1, CONTINUE = -1, JUMP = -3, GOTO = -4, RETURN = -5 }
    generation: u16 { ID = 1 }

    expression: u16 { NAME = 1, DATA = 2 }
    meta: u16 { KEY = 2, SREG = 3 }
    meta_key: u32 { PRIORITY = 2, MARK = 3, IIFNAME = 6, OIFNAME = 7, NFPROTO = 15, L4PROTO = 16 }
    payload: u16 { BASE = 2, OFFSET = 3, LEN = 4 }
    payload_base: u32 { NETWORK_HEADER = 1, TRANSPORT_HEADER = 2 }
    fib: u16 { RESULT = 2, FLAGS = 3 }
    fib_result: u32 { ADDRTYPE = 3 }
    fib_flag: u32 { SADDR = 0x1, DADDR = 0x2 }
    ct: u16 { KEY = 2 }
    ct_key: u32 { STATE = 0, STATUS = 2 }
    numgen: u16 { MODULUS = 2, TYPE = 3, OFFSET = 4 }
    numgen_type: u32 { RANDOM = 1 }
    bitwise: u16 { SREG = 1, DREG = 2, LEN = 3, MASK = 4, XOR = 5, OP = 6 }
    byteorder: u16 { SREG = 1, DREG = 2, LEN = 4, SIZE = 5 }
    cmp: u16 { SREG = 1, OP = 2, DATA = 3 }
    lookup: u16 { SET = 1, SREG = 2, DREG = 3, SET_ID = 4, FLAGS = 5 }
    dynset: u16 { SET = 1, OP = 3, SREG_KEY = 4, SREG_DATA = 5, TIMEOUT = 6, EXPR = 7, EXPRESSIONS = 10 }
    counter: u16 { BYTES = 1, PACKETS = 2 }
    immediate: u16 { DATA = 2 }
    masq: u16 { FLAGS = 1, PROTO_MIN = 2 }
    nat: u16 { TYPE = 1, FAMILY = 2, ADDR_MIN = 3, ADDR_MAX = 4, PROTO_MIN = 5, PROTO_MAX = 6, FLAGS = 7 }
    nat_type: u32 { SNAT = 0, DNAT = 1 }
    /// `NF_NAT_RANGE_*` that follow from what a translation is to.
    nat_flag: u32 { MAP_IPS = 0x1, PROTO_SPECIFIED = 0x2 }
    reject: u16 { TYPE = 1, CODE = 2 }
    reject_type: u32 { ICMP = 0, TCP_RESET = 1, ICMPX = 2 }
    /// The codes of a port that is unreachable (RFC 792, RFC 4443, and `NFT_REJECT_ICMPX_PORT_UNREACH`).
    reject_code: u8 { ICMP_PORT = 3, ICMPV6_PORT = 4, ICMPX_PORT = 1 }
    /// The expression by which `iptables` keeps a match.
    compat_match: u16 { NAME = 1, INFO = 3 }
}
