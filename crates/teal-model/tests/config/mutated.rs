//! Whatever the text, reading it ends, with a project or with problems.

use crate::common::Input;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to break files with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const SCRAPS: [&str; 40] = [
    "${",
    "}",
    "$",
    "$$",
    "${A:-",
    ":?",
    "*common",
    "&x",
    "<<",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "\n",
    "\t",
    "  ",
    "null",
    "~",
    "-1",
    "99999999999999999999",
    "1e999",
    "é",
    "\u{2028}",
    "\u{feff}",
    "|",
    ">",
    "#",
    "!!str ",
    "!override ",
    "---\n",
    "? ",
    ",",
    "%",
    "@",
    "\\",
    "\0",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(6) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(12)).min(chars.len());
        match random.below(5) {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, random.pick(&SCRAPS).chars())),
            2 => drop(chars.splice(at..end, random.pick(&SCRAPS).chars())),
            3 => {
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = random.below(chars.len() + 1);
                drop(chars.splice(to..to, copy));
            }
            _ => {
                // A whole line goes somewhere else: mostly valid YAML with the wrong shape.
                let lines: Vec<String> = chars.iter().collect::<String>().lines().map(str::to_owned).collect();
                let mut moved = lines.clone();
                let line = random.pick(&lines).clone();
                moved.insert(random.below(lines.len() + 1), line);
                chars = moved.join("\n").chars().collect();
            }
        }
        if chars.is_empty() {
            chars.push('a');
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_text_makes_the_reading_panic() {
    let mut random = Random(7);
    let seeds = [
        include_str!("shop.yaml"),
        include_str!("bad.yaml"),
        include_str!("collection/override/compose.yaml"),
        include_str!("collection/include/compose.yaml"),
        include_str!("collection/extends/compose.yaml"),
        include_str!("collection/limits.yaml"),
        include_str!("collection/nextcloud.yaml"),
        include_str!("collection/swarm-stack.yaml"),
    ];
    for _ in 0..4_000 {
        let seed: &str = seeds[random.below(seeds.len())];
        let text = mutate(seed, &mut random);
        let dotenv = mutate("A=1\nB=\"x ${A} \\n\"\nexport C='y'\n# c\nD: 4\n", &mut random);
        let over = mutate(include_str!("collection/override/compose.override.yaml"), &mut random);
        let base = mutate(include_str!("collection/extends/common/base.yaml"), &mut random);
        let over: &[(&str, &str)] = if random.below(2) == 0 { &[] } else { &[("over.yaml", &over)] };
        let input = Input {
            text: &text,
            over,
            dotenv: Some(&dotenv),
            environment: &[("SECRET", "s"), ("HOME", "/root")],
            files: &[
                ("bad.env", &dotenv),
                ("common/base.yaml", &base),
                ("db/compose.yaml", &base),
                ("mail/mail.yaml", include_str!("collection/include/mail/mail.yaml")),
                ("mail/mail.prod.yaml", &base),
                (".env.web", &dotenv),
            ],
            ..Input::default()
        };
        match input.read() {
            Ok(parsed) => assert!(!parsed.project.services.is_empty(), "{text}"),
            Err(problems) => assert!(!problems.is_empty(), "refused without a word:\n{text}"),
        }
    }
}

#[test]
fn the_same_text_always_gives_the_same_answer() {
    let mut random = Random(11);
    for _ in 0..50 {
        let text = mutate(include_str!("bad.yaml"), &mut random);
        let read = || Input { text: &text, ..Input::default() }.read();
        assert_eq!(read(), read());
    }
}
