//! From an .env file. Our own few lines: the crates that read such files put the variables of this
//! process into them, and show a line that they cannot read, value and all.

use std::path::Path;

use zeroize::Zeroizing;

use super::draft::{Asked, Draft, From};
use super::words::shell_quoted;
use super::{Refused, at};

pub fn draft(text: &str, file: &Path, service: &str) -> Result<Draft, Refused> {
    let mut draft = Draft {
        // `.env` and `web.env`.
        service: service.trim_start_matches('.').to_owned(),
        ..Draft::default()
    };
    let mut number = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        number += 1;
        let trimmed = line.trim_start();
        if trimmed.trim().is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let trimmed = trimmed.strip_prefix("export ").unwrap_or(trimmed);
        let Some((name, _)) = trimmed.split_once('=') else {
            return Err(at(number, "expected NAME=VALUE"));
        };
        let skipped = line.len() - trimmed.len() + name.len() + 1;
        let name = name.trim();
        let (value, end) = value(&rest[skipped..]).map_err(|why| at(number, why))?;
        let taken = &rest[..skipped + end];
        rest = &rest[taken.len()..];
        // To the end of the line that the value ends in.
        let (tail, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if !tail.trim().is_empty() && !tail.trim_start().starts_with('#') {
            return Err(at(
                number,
                format!("there is something behind the value of {name}"),
            ));
        }
        rest = after;
        take(&mut draft, file, name, value).map_err(|why| at(number, why))?;
        number += taken.matches('\n').count();
    }
    if draft.secrets.is_empty() {
        return Err(": no variable is set there".into());
    }
    draft.notes.push(
        "each variable became a secret that goes into the same variable: a copy that no revoke \
         reaches; where the program can read a file, give it `env_file` in place of `env`"
            .into(),
    );
    draft.notes.push(
        "what is no secret may go into `config`, where the program reads it as a file, or be an \
         argument of the command"
            .into(),
    );
    draft.notes.push("add the `command`".into());
    Ok(draft)
}

fn take(
    draft: &mut Draft,
    file: &Path,
    name: &str,
    value: Zeroizing<Vec<u8>>,
) -> Result<(), String> {
    let quoted = shell_quoted(&file.display().to_string());
    // What the manifest refuses is told with its line.
    let probe = format!(
        "service: x\nsecrets:\n  - name: x\n    env: {}\n",
        serde_json::Value::from(name)
    );
    if let Err(error) = model::Manifest::parse(probe.as_bytes(), Path::new("x")) {
        let why = error.to_string();
        let why = why.rsplit(": ").next().unwrap_or_default();
        draft.notes.push(format!("not carried over: {name}: {why}"));
        return Ok(());
    }
    // As with a shell, the last one counts.
    let is_new = draft.values.insert(name.to_owned(), value).is_none();
    if !is_new {
        return Ok(());
    }
    let from = format!("deploy import env {quoted} --value {name}");
    let asked = Asked {
        env: Some(name.to_owned()),
        from: From::Piped(from),
        ..Asked::default()
    };
    let added = draft.add(name, asked);
    added.map_err(|why| why.trim_start_matches(": ").to_owned())
}

/// The value that `text` begins with, and where it ends.
fn value(text: &str) -> Result<(Zeroizing<Vec<u8>>, usize), &'static str> {
    let blanks = text.len() - text.trim_start_matches([' ', '\t']).len();
    let text = &text[blanks..];
    let unset = "its value refers to another variable ($...); write out what it stands for, or quote it '...'";
    match text.chars().next() {
        Some('\'') => {
            let end = text[1..].find('\'').ok_or("this quote is not closed")?;
            let value = text.as_bytes()[1..=end].to_vec();
            Ok((Zeroizing::new(value), blanks + end + 2))
        }
        Some('"') => {
            let mut value = Zeroizing::new(Vec::new());
            let mut chars = text.char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                let c = match c {
                    '"' => return Ok((value, blanks + at + 1)),
                    '$' => return Err(unset),
                    '\\' => match chars.next().ok_or("this quote is not closed")?.1 {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        c @ ('"' | '\\' | '$' | '`') => c,
                        _ => {
                            return Err("within \"...\", a \\ stands before \" \\ $ ` n r t alone");
                        }
                    },
                    c => c,
                };
                value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Err("this quote is not closed")
        }
        _ => {
            let line = text.split('\n').next().unwrap_or_default();
            let comment = line
                .char_indices()
                .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
            let end = comment.map_or(line.len(), |(at, _)| at);
            let value = line[..end].trim_end();
            if value.contains('$') {
                return Err(unset);
            }
            Ok((
                Zeroizing::new(value.as_bytes().to_vec()),
                blanks + value.len(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Draft, Refused> {
        draft(text, Path::new(".env"), ".env")
    }

    #[test]
    fn every_way_to_write_a_value_is_read_and_none_is_printed() {
        let text = "# c\n\nexport A=plain # no\nB='one $x\ntwo'\nC=\"q\\\"\\n\\$\" # c\nD=\nE= a#b \nA=later\nPATH=/x\n";
        let draft = read(text).unwrap();
        let value = |name: &str| String::from_utf8(draft.values[name].to_vec()).unwrap();
        assert_eq!(value("A"), "later");
        assert_eq!(value("B"), "one $x\ntwo");
        assert_eq!(value("C"), "q\"\n$");
        assert_eq!((value("D").as_str(), value("E").as_str()), ("", "a#b"));
        let imported = draft.finish().unwrap();
        assert_eq!(imported.service, "env");
        assert_eq!(
            imported.commands[0],
            "deploy import env .env --value A | deploy secret set a --file -"
        );
        let text = imported.text();
        assert!(text.contains("env: A\n") && text.contains("PATH"), "{text}");
        assert!(!text.contains("later") && !text.contains("two"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line_and_without_a_value() {
        for (text, line, word) in [
            ("A=1\nhush\n", ":2:", "NAME=VALUE"),
            ("A='x\ny'\nB=hush$C\n", ":3:", "$..."),
            ("A=\"hush$C\"\n", ":1:", "$..."),
            ("A='hush\n", ":1:", "not closed"),
            ("A='x' hush\n", ":1:", "behind the value of A"),
            ("A=1\na=hush\n", ":2:", "two names"),
            ("\n", ":", "no variable"),
        ] {
            let Err(said) = read(text) else {
                panic!("{text}");
            };
            assert!(said.starts_with(line) && said.contains(word), "{said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }
}
