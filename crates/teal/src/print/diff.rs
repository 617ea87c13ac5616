//! The lines in which two texts differ, with a few around them.

const AROUND: usize = 2;

/// `@@ line`, then lines that begin with a space, `-` or `+`.
pub fn lines(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let steps = steps(&old, &new);
    let changed: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].0 != ' ').collect();
    let near = |at: usize| changed.iter().any(|one| one.abs_diff(at) <= AROUND);
    let (mut out, mut line, mut shown) = (Vec::new(), 1, false);
    for (at, (sign, text)) in steps.iter().enumerate() {
        if near(at) {
            if !shown {
                out.push(format!("@@ line {line}"));
            }
            out.push(format!("{sign}{text}").trim_end().to_owned());
        }
        shown = near(at);
        line += usize::from(*sign != '+');
    }
    out
}

/// What is kept, taken away and added, by the longest common subsequence between equal ends.
fn steps<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(char, &'t str)> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut out: Vec<(char, &str)> = old[..head].iter().map(|line| (' ', *line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            out.push(('-', a[i]));
            i += 1;
        } else {
            out.push(('+', b[j]));
            j += 1;
        }
    }
    out.extend(old[old.len() - tail..].iter().map(|line| (' ', *line)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_with_what_is_around_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
        let after = "a\nb\nc\nD\ne\nf\ng\nh\nh2\ni\n";
        assert_eq!(lines(before, after), ["@@ line 2", " b", " c", "-d", "+D", " e", " f", " g", " h", "+h2", " i"]);
        assert_eq!(lines(before, before), Vec::<String>::new());
        assert_eq!(lines("", "x\n"), ["@@ line 1", "+x"]);
        let far = format!("x\n{before}y\n");
        assert_eq!(
            lines(&far, &far.replace('x', "X").replace('y', "Y")).iter().filter(|l| l.starts_with("@@")).count(),
            2
        );
    }
}
