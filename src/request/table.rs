//! Which rows does a file have, and which of them is whose?

use std::collections::HashMap;

use serde_json::Value as Json;

use super::text_of;
use crate::random::Random;
use crate::{Error, Result};

/// The values of a row, by column.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Json>);

/// Which row an iteration gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One after the other over all virtual users, and then from the beginning again.
    Sequential,
    /// Any, each equally often.
    #[default]
    Random,
    /// Always the one of the virtual user.
    PerVu,
}

/// The rows of a file.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Row>,
    order: Order,
    /// Rows that only accounts with the same text in a column may get, by that text.
    paired: Option<HashMap<String, Vec<usize>>>,
}

impl Table {
    /// Reads JSON, a list of objects, if the file is called so; otherwise CSV as RFC 4180 has it, the names of the columns in its first line.
    /// CSV has text alone; what a row of JSON does not have is null.
    ///
    /// # Errors
    /// Usage: no such file, no rows.
    pub fn read(name: &str, text: &str, order: Order) -> Result<Self> {
        let (columns, rows) = if name.to_lowercase().ends_with(".json") { of_json(name, text)? } else { of_csv(name, text)? };
        if rows.is_empty() {
            return Err(Error::usage(format!("{name} has no rows"))
                .cure("one object, or one line after the names of the columns, at least"));
        }
        Ok(Self { columns, rows, order, paired: None })
    }

    /// Lets an account get only rows which have in `column` what it has itself.
    ///
    /// # Errors
    /// Usage, when there is no such column.
    pub fn paired(self, column: &str) -> Result<Self> {
        let n = self.column(column).ok_or_else(|| {
            Error::usage(format!("there is no column `{column}`")).cure(format!("one of: {}", self.columns.join(", ")))
        })?;
        let mut paired: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, row) in self.rows.iter().enumerate() {
            paired.entry(text_of(&row.0[n])).or_default().push(number);
        }
        Ok(Self { paired: Some(paired), ..self })
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// All rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Which row each iteration gets.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The row of an iteration: of those with `pair`, if rows are paired. `nth` counts the rows that were given out before, over all virtual users.
    /// `None`: nobody with this `pair` has a row.
    pub fn choose(&self, pair: Option<&Json>, vu: u32, nth: u64, random: &mut Random) -> Option<&Row> {
        let numbers = match &self.paired {
            None => None,
            Some(paired) => Some(paired.get(&text_of(pair?))?),
        };
        let count = numbers.map_or(self.rows.len(), Vec::len) as u64;
        let at = match self.order {
            Order::Sequential => nth % count,
            Order::Random => random.below(count),
            Order::PerVu => u64::from(vu) % count,
        } as usize;
        self.rows.get(numbers.map_or(at, |numbers| numbers[at]))
    }
}

type Read = (Vec<String>, Vec<Row>);

fn of_json(name: &str, text: &str) -> Result<Read> {
    let wrong = |what: &str| Error::usage(format!("{name}: {what}")).cure("a list of objects: [{ \"id\": 1 }, { \"id\": 2 }]");
    let json: Json = serde_json::from_str(text).map_err(|why| wrong("it is no JSON").because(why))?;
    let Json::Array(items) = json else { return Err(wrong("it is no list")) };
    let objects: Option<Vec<_>> = items.iter().map(Json::as_object).collect();
    let objects = objects.ok_or_else(|| wrong("something in the list is no object"))?;
    let mut columns: Vec<String> = Vec::new();
    for key in objects.iter().flat_map(|object| object.keys()) {
        if !columns.contains(key) {
            columns.push(key.clone());
        }
    }
    let row = |object: &&serde_json::Map<String, Json>| {
        Row(columns.iter().map(|column| object.get(column).cloned().unwrap_or(Json::Null)).collect())
    };
    Ok((columns.clone(), objects.iter().map(row).collect()))
}

fn of_csv(name: &str, text: &str) -> Result<Read> {
    let mut records = csv(text).map_err(|line| {
        Error::usage(format!("{name}:{line}: a quote is not closed")).cure("double a quote inside quotes: \"say \"\"a\"\"\"")
    })?;
    records.retain(|(_, fields)| fields.len() > 1 || !fields[0].trim().is_empty());
    let mut records = records.into_iter();
    let columns: Vec<String> = records.next().map(|(_, fields)| fields).unwrap_or_default();
    let mut rows = Vec::new();
    for (line, fields) in records {
        if fields.len() != columns.len() {
            let message = format!("{name}:{line}: {} values, and {} columns", fields.len(), columns.len());
            return Err(Error::usage(message).cure("as many values in each line as the first line has names"));
        }
        rows.push(Row(fields.into_iter().map(Json::String).collect()));
    }
    Ok((columns.iter().map(|column| column.trim().to_owned()).collect(), rows))
}

/// The records, each with the line in which it begins; or the line of a quote that is not closed.
fn csv(text: &str) -> Result<Vec<(usize, Vec<String>)>, usize> {
    let mut records = Vec::new();
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut line, mut began, mut is_quoted) = (1, 1, false);
    let mut characters = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = characters.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() => is_quoted = true,
            _ if is_quoted => field.push(c),
            '\r' if characters.peek() == Some(&'\n') => {}
            ',' => fields.push(std::mem::take(&mut field)),
            '\n' => {
                fields.push(std::mem::take(&mut field));
                records.push((began, std::mem::take(&mut fields)));
                began = line;
            }
            _ => field.push(c),
        }
    }
    if is_quoted {
        return Err(began);
    }
    if !field.is_empty() || !fields.is_empty() {
        fields.push(field);
        records.push((began, fields));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn csv_is_read_as_others_write_it() {
        let text = "\u{feff}id, name\r\n1,\"O'Neil, \"\"Pat\"\"\"\r\n\r\n2,\"two\nlines\"\r\n03,";
        let table = Table::read("a.csv", text, Order::PerVu).unwrap();
        assert_eq!(table.columns(), ["id", "name"]);
        let rows: Vec<_> = table.rows().iter().map(|row| row.0.clone()).collect();
        assert_eq!(rows, [[json!("1"), json!("O'Neil, \"Pat\"")], [json!("2"), json!("two\nlines")], [json!("03"), json!("")]]);
        let said = |text: &str| Table::read("a.csv", text, Order::Random).unwrap_err().to_string();
        assert!(said("a,b\n1").contains("a.csv:2: 1 values, and 2 columns"));
        assert!(said("a,b\n1,\"2").contains("a.csv:2: a quote is not closed"));
        assert!(said("a,b\n").contains("no rows"));
    }

    #[test]
    fn json_keeps_its_types_and_what_is_not_there_is_null() {
        let table = Table::read("a.JSON", r#"[{"id": 1, "ok": true}, {"id": 2, "name": "x"}]"#, Order::Sequential).unwrap();
        assert_eq!(table.columns(), ["id", "ok", "name"]);
        assert_eq!(table.rows()[1], Row(vec![json!(2), Json::Null, json!("x")]));
        assert!(Table::read("a.json", "{}", Order::Random).unwrap_err().to_string().contains("it is no list"));
    }

    #[test]
    fn each_order_gives_the_rows_that_it_says_and_pairs_stay_together() {
        let text = "org,id\n1,a\n2,b\n1,c\n";
        let table = |order| Table::read("a.csv", text, order).unwrap();
        let mut random = Random::seeded(1);
        let mut ids = |table: &Table, pair: Option<&Json>, vu| -> Vec<String> {
            (0..4).filter_map(|n| Some(text_of(&table.choose(pair, vu, n, &mut random)?.0[1]))).collect()
        };
        assert_eq!(ids(&table(Order::Sequential), None, 0), ["a", "b", "c", "a"]);
        assert_eq!(ids(&table(Order::PerVu), None, 4), ["b", "b", "b", "b"]);
        let paired = table(Order::Sequential).paired("org").unwrap();
        assert_eq!(ids(&paired, Some(&json!(1)), 0), ["a", "c", "a", "c"]);
        assert!(ids(&table(Order::Random).paired("org").unwrap(), Some(&json!("2")), 7).iter().all(|id| id == "b"));
        assert!(ids(&paired, Some(&json!(3)), 0).is_empty() && ids(&paired, None, 0).is_empty());
    }
}
