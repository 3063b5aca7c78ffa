//! Words of a command, as systemd and compose files have them, and as a shell is given them.

/// Splits at blanks, with `'...'`, `"..."` and `\`; `None`: a quote is not closed.
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (Some('"') | None, '\\') => word.get_or_insert_default().push(chars.next()?),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// One word for a shell.
pub fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_and_quoted_as_a_shell_does_it() {
        let words = split(r#"a 'b c' "d \" e" f\ g '' h"#);
        let expected = ["a", "b c", "d \" e", "f g", "", "h"];
        assert_eq!(words.as_deref(), Some(&expected.map(str::to_owned)[..]));
        assert_eq!(split("a 'b"), None);
        assert_eq!(shell_quoted("/etc/a-b.c"), "/etc/a-b.c");
        assert_eq!(shell_quoted("it's; rm $x"), r"'it'\''s; rm $x'");
        assert_eq!(shell_quoted(""), "''");
    }
}
