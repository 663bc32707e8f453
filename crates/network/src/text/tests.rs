use super::*;

#[test]
fn what_moves_the_cursor_or_turns_letters_is_escaped_and_much_is_cut() {
    for (text, shown) in [
        ("vxlan", "vxlan"),
        ("it's \"a\\b\"", "it's \"a\\b\""),
        ("x\nip route", "x\\nip route"),
        ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
        ("\u{9b}2J", "\\u{9b}2J"),
        ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
        ("\u{e4}\u{20ac}", "\u{e4}\u{20ac}"),
    ] {
        assert_eq!(printable(text), shown);
    }
    assert_eq!(printable(&"y".repeat(253)), "y".repeat(253));
    assert_eq!(printable(&"y".repeat(2000)), "y".repeat(253) + "...");
    assert!(printable(&"\n".repeat(2000)).len() <= LIMIT);
}
