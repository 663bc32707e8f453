use std::collections::BTreeMap;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Shape {
    name: String,
    sides: Option<Vec<Side>>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Side {
    length: u8,
}

fn tree(text: &str) -> Tree {
    serde_saphyr::from_str(text).expect("valid YAML")
}

#[test]
fn an_object_is_read_and_unknown_fields_are_passed_over() {
    let shape =
        tree("name: a\nsides: [{length: 3, color: red}]\nother: {x: [1, 2.5, true, null]}\ntags: {k: v}").read();
    let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    assert_eq!(shape, Ok(Shape { name: "a".into(), sides: Some(vec![Side { length: 3 }]), tags }));
    assert_eq!(tree("name: a\nsides: ~").read::<Shape>().map(|shape| shape.sides), Ok(None));
}

#[test]
fn an_error_names_line_and_field() {
    let at = |text| tree(text).read::<Shape>().map_err(|error| (error.line, error.field)).expect_err("no shape");
    assert_eq!(at("name: a\nsides:\n- length: 1\n- length: x"), (4, "sides[1].length".to_owned()));
    assert_eq!(at("name: a\nsides:\n- length: 300"), (3, "sides[0].length".to_owned()));
    assert_eq!(at("name: 5"), (1, "name".to_owned()), "a number is no text, as with kubectl");
    assert_eq!(at("\ntags: {}"), (2, String::new()), "a missing field is one of the object");
}

#[test]
fn a_field_has_its_line_or_that_of_the_last_one_on_the_way() {
    let tree = tree("a:\n  b:\n  - c: 1\n  - c: 2\n");
    assert_eq!(["a.b[1].c", "a.b[1].d", "a.b[7]", "x"].map(|field| tree.line_of(field)), [4, 4, 3, 1]);
}
