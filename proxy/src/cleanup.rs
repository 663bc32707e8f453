//! The removal of the tables that netd-proxy has made.

use dataplane::nft::{self, Operation, TableFamily, TableId};

use crate::listing::server;
use crate::ruleset::TABLE;

/// Removes the tables of both families.
///
/// # Errors
/// Where the kernel refuses it.
pub fn clean_up() -> Result<(), nft::Error> {
    let mut socket = nft::Socket::open()?;
    for family in [TableFamily::Ip, TableFamily::Ip6] {
        if socket.read_table_without_elements(family, TABLE)?.is_some() {
            socket.apply(&[Operation::DeleteTable(TableId::new(family, TABLE))])?;
        }
    }
    Ok(())
}

/// Removes the tables of both families where no proxy runs that follows Services with them.
///
/// # Errors
/// Where the kernel refuses it.
pub fn remove_unused() -> Result<(), nft::Error> {
    if server::is_running() { Ok(()) } else { clean_up() }
}
