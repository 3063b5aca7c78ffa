//! Tables for people; programs take --json.

use comfy_table::{Table, presets};

/// Columns under a head; nothing at all without a row.
pub fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    let mut any = false;
    for row in rows {
        table.add_row(row);
        any = true;
    }
    if any { lines(&table) } else { String::new() }
}

/// A word and what it is, on each line.
pub fn facts(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (word, fact) in rows {
        table.add_row([word.to_owned(), fact]);
    }
    lines(&table)
}

/// Without the padding, which is at both ends of each line.
fn lines(table: &Table) -> String {
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end().strip_prefix(' ').unwrap_or(&line)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_head_and_no_row_is_no_text() {
        let rows = [["db".into(), "1".into()], ["api_key".into(), "12".into()]];
        assert_eq!(
            table(["NAME", "V"], rows),
            "NAME     V\ndb       1\napi_key  12\n"
        );
        assert_eq!(table(["NAME"], []), "");
        assert_eq!(facts([("state", "sealed".into())]), "state  sealed\n");
    }
}
