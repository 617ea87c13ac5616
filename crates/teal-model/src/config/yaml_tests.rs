use super::*;

fn read(text: &str) -> Node {
    parse(0, "compose.yaml", text).unwrap()
}

fn fail(text: &str) -> Vec<String> {
    parse(0, "compose.yaml", text).unwrap_err().iter().map(Problem::to_string).collect()
}

fn get<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    let mut at = node;
    for key in path {
        at = match &at.value {
            Value::Map(entries) => &entries.iter().find(|e| e.key == *key)?.node,
            Value::List(items) => items.get(key.parse::<usize>().ok()?)?,
            Value::Scalar { .. } | Value::Unknown => return None,
        };
    }
    Some(at)
}

fn text<'a>(node: &'a Node, path: &[&str]) -> &'a str {
    match get(node, path).map(|n| &n.value) {
        Some(Value::Scalar { text, .. }) => text,
        other => panic!("{path:?}: {other:?}"),
    }
}

#[test]
fn every_node_knows_its_line_and_column() {
    let node = read("a:\n  b: 1\n  c:\n    - x\n    - y\n");
    assert_eq!(get(&node, &["a", "b"]).unwrap().mark, Mark { file: 0, line: 2, column: 6 });
    assert_eq!(get(&node, &["a", "c", "1"]).unwrap().mark, Mark { file: 0, line: 5, column: 7 });
    let Value::Map(entries) = &get(&node, &["a"]).unwrap().value else { panic!() };
    assert_eq!(entries[1].key_mark, Mark { file: 0, line: 3, column: 3 });
}

#[test]
fn a_block_and_an_empty_value_are_shown_at_their_key() {
    let node = read("a:\n  b:\n    - x\n  c:\n\n  d: {}\n");
    for (path, line) in [(&["a"][..], 1), (&["a", "b"], 2), (&["a", "c"], 4), (&["a", "d"], 6)] {
        assert_eq!(get(&node, path).unwrap().mark.line, line, "{path:?}");
    }
}

#[test]
fn scalars_keep_their_spelling() {
    let node = read("port: 80:8080\nversion: 1.10\nanswer: yes\nhex: 0x10\nquoted: 'no'\nsexagesimal: 22:22\n");
    for (key, want) in
        [("port", "80:8080"), ("version", "1.10"), ("answer", "yes"), ("hex", "0x10"), ("sexagesimal", "22:22")]
    {
        assert_eq!(text(&node, &[key]), want);
    }
    assert_eq!(get(&node, &["quoted"]).unwrap().value, Value::Scalar { text: "no".into(), plain: false });
}

#[test]
fn null_is_only_what_is_not_quoted() {
    let node = read("a:\nb: ~\nc: null\nd: ''\ne: 'null'\nf: !!str null\n");
    for key in ["a", "b", "c"] {
        assert!(get(&node, &[key]).unwrap().is_null(), "{key}");
    }
    for key in ["d", "e", "f"] {
        assert!(!get(&node, &[key]).unwrap().is_null(), "{key}");
    }
}

#[test]
fn an_empty_file_is_null() {
    for text in ["", "\n", "# nothing\n", "---\n"] {
        assert!(read(text).is_null(), "{text:?}");
    }
}

#[test]
fn merge_keys_give_way_to_what_is_written() {
    let node = read(concat!(
        "base: &base {image: a, user: root, env: {A: '1'}}\n",
        "other: &other {image: b, tty: 'x'}\n",
        "one:\n  image: own\n  <<: *base\n",
        "two:\n  <<: [*other, *base]\n  env: {B: '2'}\n",
        "three:\n  <<: {image: c}\n",
    ));
    assert_eq!(text(&node, &["one", "image"]), "own");
    assert_eq!(text(&node, &["one", "user"]), "root");
    assert_eq!(text(&node, &["two", "image"]), "b", "the first of the list wins");
    assert_eq!(text(&node, &["two", "user"]), "root");
    assert_eq!(text(&node, &["two", "env", "B"]), "2");
    assert!(get(&node, &["two", "env", "A"]).is_none(), "a merge is one level deep");
    assert_eq!(text(&node, &["three", "image"]), "c");
}

#[test]
fn an_alias_points_to_where_the_text_stands() {
    let node = read("a: &x [one]\nb: *x\n");
    assert_eq!(get(&node, &["b", "0"]).unwrap().mark.line, 1);
}

#[test]
fn a_duplicate_key_is_a_problem_with_its_path_and_all_are_reported() {
    let problems = fail("services:\n  web:\n    image: a\n    image: b\n    user: x\n    user: y\n");
    assert_eq!(
        problems,
        [
            "compose.yaml:4: services.web.image: written twice. Keep one of the two.",
            "compose.yaml:6: services.web.user: written twice. Keep one of the two.",
        ]
    );
}

#[test]
fn broken_yaml_gives_the_place() {
    for (text, line) in [
        ("a: [1, 2\nb: 3\n", 2),
        ("a: 'open\n", 2),
        ("services:\n\tweb: 1\n", 2),
        ("a: b: c\n", 1),
        ("a: *nowhere\n", 1),
        ("a: }\n", 1),
        ("a: &x [*x]\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("? [a]\n: b\n", 1),
        ("<<: 3\n", 1),
        ("<<: [3]\n", 1),
        ("a: !vault x\n", 1),
        ("a: !!binary abc\n", 1),
    ] {
        let problems = parse(0, "compose.yaml", text).unwrap_err();
        assert!(problems[0].line.abs_diff(line) <= 1, "{text:?}: {}", problems[0]);
        assert!(problems[0].column > 0, "{text:?}");
    }
}

#[test]
fn nested_aliases_cannot_exhaust_the_memory() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let refs = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb += &format!("a{n}: &a{n} [{refs}]\n");
    }
    assert!(fail(&bomb)[0].contains("grows beyond"), "{:?}", fail(&bomb));

    let mut merges = format!("a0: &a0 {{k: '{}'}}\n", "x".repeat(100_000));
    for n in 1..2_000 {
        merges += &format!("a{n}: {{<<: *a0}}\n");
    }
    assert!(fail(&merges)[0].contains("grows beyond"));
}

#[test]
fn deep_nesting_is_refused() {
    let flow = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(parse(0, "compose.yaml", &flow).is_err());
    let block: String = (0..200).map(|n| format!("{}k:\n", " ".repeat(n))).collect();
    assert!(fail(&block)[0].contains("deeper"), "{:?}", fail(&block));
}
