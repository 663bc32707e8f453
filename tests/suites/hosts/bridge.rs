//! The pods' bridge, as people and programs change it.

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![]
}
