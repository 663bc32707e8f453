//! The fake keeps the kernel's rules.

use super::*;
use crate::nft::{Chain, Operation, Rule, Table, TableId, Transaction, Verdict};

#[test]
fn a_transaction_is_applied_whole_or_not_at_all() {
    let id = TableId::new(nft::TableFamily::Inet, "t");
    let table = Table::new(id.family, &id.name).with_chain("c", Chain::regular());
    let rule = Rule::new([Verdict::Accept.into()]);
    let add = Operation::AddRule { table: id.clone(), chain: "c".to_owned(), rule };
    let missing = Operation::DeleteRule { table: id.clone(), chain: "c".to_owned(), handle: 9 };
    let mut fake = Fake::default();
    let transactions: [Transaction; 3] = [
        Operation::ReplaceTable(table.clone()).into(),
        [add.clone(), missing].into_iter().collect(),
        [add.clone(), add].into_iter().collect(),
    ];
    let [first, refused, both] = transactions.map(Op::Nft);
    assert!(fake.apply(&[first])[0].is_ok(), "a table");
    let outcome = fake.apply(std::slice::from_ref(&refused)).remove(0);
    assert!(outcome.as_ref().is_err_and(KernelError::is_missing), "there is no such rule: {outcome:?}");
    assert!(!refused.is_done_despite(&outcome.expect_err("a refusal")), "the other operation has still to be done");
    assert_eq!(fake.tables[&id], table, "nothing of the refused transaction is left");
    assert!(fake.apply(&[both])[0].is_ok(), "two rules");
    assert_eq!(fake.tables[&id].chains["c"].rules.len(), 2, "both operations were applied");
}
