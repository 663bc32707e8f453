//! A key of etcd with its value.
//!
//! Pure.

/// A key as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyValue {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// The revision that created the key.
    pub(super) create_revision: i64,
    /// The revision that wrote the key last.
    pub(super) mod_revision: i64,
    /// The lease with which the key expires; 0 for none.
    pub(super) lease: i64,
}

impl KeyValue {
    /// Converts etcd-client's type. `None` where the key is not UTF-8, which neither netd nor flannel writes.
    pub(super) fn new(kv: &etcd_client::KeyValue) -> Option<Self> {
        Some(Self {
            key: kv.key_str().ok()?.to_owned(),
            value: kv.value().to_vec(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            lease: kv.lease(),
        })
    }

    /// The value as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
}
