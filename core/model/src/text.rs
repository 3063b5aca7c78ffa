//! Words for errors: what may be shown of a text, and the right word that it is nearest to.

/// Enough to know one's own text again.
const MOST: usize = 40;

/// A text as an error may show it: cut, and without a character that acts on a terminal.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", escaped(&text[..end])),
        None => escaped(text),
    }
}

/// A text without a character that acts on a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// The beginning of a text that looks like a keyword: a value that follows a `=` that should have
/// been something else is not shown.
pub(crate) fn shown_keyword(text: &str) -> String {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .unwrap_or(text.len());
    let cut = if end < text.len() { "…" } else { "" };
    format!("{}{cut}", shown(&text[..end]))
}

/// The one of `words` that `text` was probably meant to be, in whatever case it is: a third of its
/// letters may be wrong.
#[must_use]
pub fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No name is longer, and the distance takes the product of both lengths.
    if text.len() > 253 {
        return None;
    }
    let text = text.to_ascii_lowercase();
    words
        .into_iter()
        .map(|word| (distance(&text, &word.to_ascii_lowercase()), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `; did you mean X?`, or nothing.
pub(crate) fn did_you_mean(text: &str, words: &[&str]) -> String {
    match nearest(text, words.iter().copied()) {
        Some(word) => format!("; did you mean `{word}`?"),
        None => String::new(),
    }
}

/// `a`, `b`, `c`.
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// How many letters must be put in, left out, replaced, or swapped with their neighbour (optimal
/// string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let words = ["service", "secret", "secrets", "config", "config_from"];
        for (text, word) in [
            ("secrts", Some("secrets")),
            ("secrt", Some("secret")),
            ("sercive", Some("service")),
            ("CONFIG", Some("config")),
            ("configfrom", Some("config_from")),
            ("x", None),
            ("", None),
            ("password", None),
        ] {
            assert_eq!(nearest(text, words), word, "{text}");
        }
        assert_eq!(nearest(&"secret".repeat(100_000), words), None);
    }

    #[test]
    fn what_is_shown_does_nothing_to_a_terminal_and_is_short() {
        assert_eq!(shown("a\u{1b}[31m\n"), "a\\u{1b}[31m\\u{a}");
        assert_eq!(shown("\u{202e}ä"), "\\u{202e}ä");
        assert_eq!(shown(&"x".repeat(1000)), format!("{}…", "x".repeat(40)));
        assert_eq!(shown_keyword("password=hunter2"), "password…");
        assert_eq!(shown_keyword("secrts"), "secrts");
    }
}
