//! README's commands, run as they stand there.

use netd_tests::{Context, Outcome};

const README: &str = include_str!("../../../README.md");

/// The first block of commands after these words.
pub(crate) fn commands(after: &str) -> Outcome<&'static str> {
    let (_, rest) = README.split_once(after).context(format!("README does not say {after:?}"))?;
    let (_, rest) = rest.split_once("\n```\n").context("no block of commands follows")?;
    let (block, _) = rest.split_once("```\n").context("the block does not end")?;
    Ok(block)
}

/// The parts of a block before, at and after the line that begins so.
pub(crate) fn apart<'b>(block: &'b str, line: &str) -> Outcome<(&'b str, &'b str, &'b str)> {
    let start = block.find(&format!("\n{line}")).context(format!("no line begins with {line:?}:\n{block}"))? + 1;
    let end = block[start..].find('\n').map_or(block.len(), |length| start + length + 1);
    Ok((&block[..start], &block[start..end], &block[end..]))
}
