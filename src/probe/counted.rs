//! How much did a counter of the server grow while the load ran? Added up from reading to reading, so that a restart loses one interval at most.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::series::rounded;

/// The counters of one key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The key; empty where the probe has one row.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What it stands for, if the probe says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// By column, how much it grew.
    pub grown: BTreeMap<String, f64>,
}

/// The readings of one probe.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    readings: u64,
    keys: BTreeMap<String, Line>,
}

#[derive(Debug, Clone, Default)]
struct Line {
    text: String,
    last: BTreeMap<String, f64>,
    grown: BTreeMap<String, f64>,
}

impl Counted {
    /// Takes a reading in: rows of numbers, with `key` and `text` if there are several. A key that appears has grown from nothing; a number that
    /// has become smaller was reset, and has grown from nothing since.
    pub fn take(&mut self, rows: &[Map<String, Value>]) {
        for row in rows {
            let word = |name: &str| row.get(name).map(plain).unwrap_or_default();
            let is_new = self.readings > 0;
            let line = self.keys.entry(word("key")).or_default();
            if line.text.is_empty() {
                line.text = word("text");
            }
            for (column, value) in row.iter().filter(|(name, _)| !["key", "text"].contains(&&***name)) {
                let Some(now) = value.as_f64() else { continue };
                let before = line.last.insert(column.clone(), now);
                let grown = match before {
                    Some(before) if now >= before => now - before,
                    Some(_) => now,
                    None if is_new => now,
                    None => 0.0,
                };
                *line.grown.entry(column.clone()).or_default() += grown;
            }
        }
        self.readings += 1;
    }

    /// What has grown. Of many keys those whose column `by` grew most, at most so many, and none that did not grow at all; `None` with fewer than two readings.
    pub fn growth(&self, by: &str, most: usize) -> Option<Vec<Growth>> {
        if self.readings < 2 {
            return None;
        }
        let mut growths: Vec<Growth> = self
            .keys
            .iter()
            .map(|(key, line)| Growth {
                key: key.clone(),
                text: line.text.clone(),
                grown: line.grown.iter().map(|(column, value)| (column.clone(), rounded(*value))).collect(),
            })
            .filter(|growth| growth.key.is_empty() || growth.grown.values().any(|grown| *grown > 0.0))
            .collect();
        let grown = |growth: &Growth| growth.grown.get(by).copied().unwrap_or(0.0);
        growths.sort_by(|a, b| grown(b).total_cmp(&grown(a)).then_with(|| a.key.cmp(&b.key)));
        growths.truncate(most);
        Some(growths)
    }
}

/// A value without its quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(value: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_grew_is_the_difference_and_a_reset_does_not_make_it_less() {
        let mut counted = Counted::default();
        counted.take(&rows(json!([{ "commits": 100, "deadlocks": 3 }])));
        assert_eq!(counted.growth("commits", 9), None, "one reading shows no growth");
        for (commits, deadlocks) in [(130, 3), (10, 0), (15, 1)] {
            counted.take(&rows(json!([{ "commits": commits, "deadlocks": deadlocks }])));
        }
        let growth = counted.growth("commits", 9).unwrap();
        assert_eq!((growth.len(), growth[0].grown["commits"], growth[0].grown["deadlocks"]), (1, 45.0, 1.0));
    }

    #[test]
    fn of_many_keys_those_are_told_that_grew_most() {
        let mut counted = Counted::default();
        let row = |key: i64, calls: i64| json!({ "key": key, "text": format!("SELECT {key}"), "calls": calls });
        counted.take(&rows(json!([row(1, 1000), row(2, 5)])));
        counted.take(&rows(json!([row(1, 1000), row(2, 25), row(-3, 7)])));
        let told: Vec<(String, String, f64)> =
            counted.growth("calls", 9).unwrap().into_iter().map(|g| (g.key, g.text, g.grown["calls"])).collect();
        assert_eq!(told, [("2".into(), "SELECT 2".into(), 20.0), ("-3".into(), "SELECT -3".into(), 7.0)]);
        assert_eq!(counted.growth("calls", 1).unwrap().len(), 1);
    }
}
