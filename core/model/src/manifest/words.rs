//! Words of a line.

/// A word without its quotes, and the column where it begins.
#[derive(Debug)]
pub(super) struct Word {
    pub column: usize,
    pub text: String,
}

/// Words as a shell splits them: quotes, `\` outside quotes, `\" \\ \n \t` within double ones. An
/// error is what is wrong, in which column.
pub(super) fn split(text: &str, column: usize) -> Result<Vec<Word>, (usize, &'static str)> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = text.chars().zip(column..);
    while let Some((c, column)) = chars.next() {
        if c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        if c == '#' && word.is_none() {
            break;
        }
        let text = &mut word
            .get_or_insert_with(|| Word {
                column,
                text: String::new(),
            })
            .text;
        match c {
            '\'' | '"' => loop {
                match chars.next() {
                    None => return Err((column, "this quote is not closed")),
                    Some((end, _)) if end == c => break,
                    Some(('\\', _)) if c == '"' => match chars.next() {
                        Some((c @ ('"' | '\\' | '$' | '`'), _)) => text.push(c),
                        Some(('n', _)) => text.push('\n'),
                        Some(('t', _)) => text.push('\t'),
                        Some((_, at)) => {
                            let words = "within \"...\", a \\ stands before \" \\ n t alone";
                            return Err((at, words));
                        }
                        None => return Err((column, "this quote is not closed")),
                    },
                    Some((other, _)) => text.push(other),
                }
            },
            '\\' => match chars.next() {
                Some((escaped, _)) => text.push(escaped),
                None => {
                    return Err((column, "a line goes on nowhere: `\\` at its end"));
                }
            },
            other => text.push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A value without the comment behind it: a `#` after whitespace begins one, as in YAML.
pub(super) fn without_comment(text: &str) -> &str {
    let mut before = '=';
    for (at, c) in text.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &text[..at];
        }
        before = c;
    }
    text
}
