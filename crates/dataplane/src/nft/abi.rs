//! Numbers of `linux/netfilter/nf_tables.h` and `nfnetlink.h`, named as there without their prefix.

/// Message types, without the subsystem.
pub(super) mod message {
    pub(in crate::nft) const NEWTABLE: u8 = 0;
    pub(in crate::nft) const GETTABLE: u8 = 1;
    pub(in crate::nft) const DELTABLE: u8 = 2;
    pub(in crate::nft) const NEWCHAIN: u8 = 3;
    pub(in crate::nft) const GETCHAIN: u8 = 4;
    pub(in crate::nft) const DELCHAIN: u8 = 5;
    pub(in crate::nft) const NEWRULE: u8 = 6;
    pub(in crate::nft) const GETRULE: u8 = 7;
    pub(in crate::nft) const DELRULE: u8 = 8;
    pub(in crate::nft) const NEWSET: u8 = 9;
    pub(in crate::nft) const GETSET: u8 = 10;
    pub(in crate::nft) const DELSET: u8 = 11;
    pub(in crate::nft) const NEWSETELEM: u8 = 12;
    pub(in crate::nft) const GETSETELEM: u8 = 13;
    pub(in crate::nft) const DELSETELEM: u8 = 14;
    pub(in crate::nft) const NEWGEN: u8 = 15;
    pub(in crate::nft) const GETGEN: u8 = 16;
    pub(in crate::nft) const NEWOBJ: u8 = 18;
    pub(in crate::nft) const DELOBJ: u8 = 20;
    pub(in crate::nft) const NEWFLOWTABLE: u8 = 22;
    pub(in crate::nft) const DELFLOWTABLE: u8 = 24;
}

pub(super) const SUBSYSTEM: u8 = 10;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

/// `NLM_F_*`.
pub(super) mod flag {
    pub(in crate::nft) const REQUEST: u16 = 0x1;
    pub(in crate::nft) const ACK: u16 = 0x4;
    pub(in crate::nft) const DUMP_INTR: u16 = 0x10;
    pub(in crate::nft) const DUMP: u16 = 0x300;
    pub(in crate::nft) const CREATE: u16 = 0x400;
    pub(in crate::nft) const APPEND: u16 = 0x800;
}

pub(super) const LIST_ELEM: u16 = 1;

pub(super) mod table {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const FLAGS: u16 = 2;
    pub(in crate::nft) const USERDATA: u16 = 6;
    pub(in crate::nft) const DORMANT: u32 = 1;
}

pub(super) mod chain {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 3;
    pub(in crate::nft) const HOOK: u16 = 4;
    pub(in crate::nft) const POLICY: u16 = 5;
    pub(in crate::nft) const TYPE: u16 = 7;
}

pub(super) mod hook {
    pub(in crate::nft) const HOOKNUM: u16 = 1;
    pub(in crate::nft) const PRIORITY: u16 = 2;
    pub(in crate::nft) const DEV: u16 = 3;
    pub(in crate::nft) const DEVS: u16 = 4;
    pub(in crate::nft) const DEVICE_NAME: u16 = 1;
}

pub(super) mod rule {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    pub(in crate::nft) const HANDLE: u16 = 3;
    pub(in crate::nft) const EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const USERDATA: u16 = 7;
    pub(in crate::nft) const MATCH_NAME: u16 = 1;
    pub(in crate::nft) const MATCH_INFO: u16 = 3;
}

pub(super) mod set {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::nft) const KEY_LEN: u16 = 5;
    pub(in crate::nft) const DATA_TYPE: u16 = 6;
    pub(in crate::nft) const DATA_LEN: u16 = 7;
    pub(in crate::nft) const DESC: u16 = 9;
    pub(in crate::nft) const ID: u16 = 10;
    pub(in crate::nft) const TIMEOUT: u16 = 11;
    pub(in crate::nft) const DESC_SIZE: u16 = 1;
    pub(in crate::nft) const DESC_CONCAT: u16 = 2;
    pub(in crate::nft) const FIELD_LEN: u16 = 1;
    /// Flags that follow from the rest of a set.
    pub(in crate::nft) const MAP: u32 = 0x8;
    pub(in crate::nft) const CONCAT: u32 = 0x80;
    pub(in crate::nft) const VERDICT: u32 = 0xffff_ff00;
}

pub(super) mod element {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const SET: u16 = 2;
    pub(in crate::nft) const ELEMENTS: u16 = 3;
    pub(in crate::nft) const KEY: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const TIMEOUT: u16 = 4;
    pub(in crate::nft) const KEY_END: u16 = 10;
    pub(in crate::nft) const INTERVAL_END: u32 = 1;
    pub(in crate::nft) const CATCHALL: u32 = 2;
}

pub(super) mod data {
    pub(in crate::nft) const VALUE: u16 = 1;
    pub(in crate::nft) const VERDICT: u16 = 2;
    pub(in crate::nft) const VERDICT_CODE: u16 = 1;
    pub(in crate::nft) const VERDICT_CHAIN: u16 = 2;
}

/// Attributes of expressions.
pub(super) mod expr {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;

    pub(in crate::nft) const META_DREG: u16 = 1;
    pub(in crate::nft) const META_KEY: u16 = 2;
    pub(in crate::nft) const META_SREG: u16 = 3;
    pub(in crate::nft) const META_MARK: u32 = 3;
    pub(in crate::nft) const META_IIFNAME: u32 = 6;
    pub(in crate::nft) const META_OIFNAME: u32 = 7;
    pub(in crate::nft) const META_NFPROTO: u32 = 15;
    pub(in crate::nft) const META_L4PROTO: u32 = 16;

    pub(in crate::nft) const PAYLOAD_DREG: u16 = 1;
    pub(in crate::nft) const PAYLOAD_BASE: u16 = 2;
    pub(in crate::nft) const PAYLOAD_OFFSET: u16 = 3;
    pub(in crate::nft) const PAYLOAD_LEN: u16 = 4;
    pub(in crate::nft) const NETWORK_HEADER: u32 = 1;
    pub(in crate::nft) const TRANSPORT_HEADER: u32 = 2;

    pub(in crate::nft) const FIB_DREG: u16 = 1;
    pub(in crate::nft) const FIB_RESULT: u16 = 2;
    pub(in crate::nft) const FIB_FLAGS: u16 = 3;
    pub(in crate::nft) const FIB_RESULT_ADDRTYPE: u32 = 3;
    pub(in crate::nft) const FIB_DADDR: u32 = 2;

    pub(in crate::nft) const CT_DREG: u16 = 1;
    pub(in crate::nft) const CT_KEY: u16 = 2;
    pub(in crate::nft) const CT_DIRECTION: u16 = 3;
    pub(in crate::nft) const CT_STATE: u32 = 0;

    pub(in crate::nft) const BITWISE_SREG: u16 = 1;
    pub(in crate::nft) const BITWISE_DREG: u16 = 2;
    pub(in crate::nft) const BITWISE_LEN: u16 = 3;
    pub(in crate::nft) const BITWISE_MASK: u16 = 4;
    pub(in crate::nft) const BITWISE_XOR: u16 = 5;
    pub(in crate::nft) const BITWISE_OP: u16 = 6;

    pub(in crate::nft) const BYTEORDER_SREG: u16 = 1;
    pub(in crate::nft) const BYTEORDER_DREG: u16 = 2;
    pub(in crate::nft) const BYTEORDER_LEN: u16 = 4;
    pub(in crate::nft) const BYTEORDER_SIZE: u16 = 5;

    pub(in crate::nft) const CMP_SREG: u16 = 1;
    pub(in crate::nft) const CMP_OP: u16 = 2;
    pub(in crate::nft) const CMP_DATA: u16 = 3;

    pub(in crate::nft) const LOOKUP_SET: u16 = 1;
    pub(in crate::nft) const LOOKUP_SREG: u16 = 2;
    pub(in crate::nft) const LOOKUP_DREG: u16 = 3;
    pub(in crate::nft) const LOOKUP_FLAGS: u16 = 5;
    pub(in crate::nft) const LOOKUP_INVERTED: u32 = 1;

    pub(in crate::nft) const IMMEDIATE_DREG: u16 = 1;
    pub(in crate::nft) const IMMEDIATE_DATA: u16 = 2;

    pub(in crate::nft) const MASQ_FLAGS: u16 = 1;
    pub(in crate::nft) const MASQ_PROTO_MIN: u16 = 2;
    pub(in crate::nft) const NAT_RANDOM: u32 = 0x4;
    pub(in crate::nft) const NAT_PERSISTENT: u32 = 0x8;
    pub(in crate::nft) const NAT_FULLY_RANDOM: u32 = 0x10;
}

/// `NFT_REG_VERDICT`.
pub(super) const REGISTER_VERDICT: u32 = 0;

pub(super) mod generation {
    pub(in crate::nft) const ID: u16 = 1;
}

/// Codes of verdicts: `NF_*` and `NFT_*`.
pub(super) mod verdict {
    pub(in crate::nft) const DROP: i32 = 0;
    pub(in crate::nft) const ACCEPT: i32 = 1;
    pub(in crate::nft) const CONTINUE: i32 = -1;
    pub(in crate::nft) const JUMP: i32 = -3;
    pub(in crate::nft) const GOTO: i32 = -4;
    pub(in crate::nft) const RETURN: i32 = -5;
}
