//! The reader on what the kernel would not say.

use proptest::prelude::*;

use super::super::encode::Batch;
use super::super::read::{Message, Payload, parse_message};
use super::*;
use crate::netlink_message::messages;

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse_message(&bytes);
    }

    #[test]
    fn no_byte_gone_wrong_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Batch::of(&[Operation::ReplaceTable(sample())], 1).expect("a batch").writer.bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let cut = cut.index(bytes.len());
        for message in messages(&bytes).chain(messages(&bytes[cut..])).chain([&bytes[cut..]]) {
            if let Ok(Message { payload: Payload::Elements(raw), .. }) = parse_message(message) {
                for set in sample().sets.values() {
                    let _ = elements::assemble(set, raw.clone());
                }
            }
        }
    }
}

#[test]
fn a_message_without_its_name_is_an_error() {
    let mut writer = writer::Writer::default();
    writer.message((writer::nftables(abi::message::NEWTABLE), 0, 1), (1, 0), |_| ());
    let error = parse_message(&writer.bytes).expect_err("a table without a name");
    assert_eq!(error.to_string(), "a table of 20 bytes: it lacks an attribute that it must have");
}
