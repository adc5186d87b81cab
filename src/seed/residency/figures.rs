//! Which residency was asked for: how large, how full, and with what planted in it?

use super::cases::{CASES, Case};
use super::rota::Fill;
use super::sheet;
use super::spec::Spec;
use crate::error::nearest;
use crate::{Error, Result};

/// What makes it another dataset than the plain one, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Days that are scheduled.
    pub days: Option<u32>,
    /// Residents of a programme.
    pub residents: Option<u32>,
    /// How much of the pattern is there.
    pub fill: Option<Fill>,
    /// What is planted: `all`, `all:N`, or names with numbers, `PL-1:10,PL-7`.
    pub plant: Option<String>,
}

impl Figures {
    /// The flags that were given.
    pub fn given(&self) -> Vec<&'static str> {
        let given = [
            (self.days.is_some(), "--days"),
            (self.residents.is_some(), "--residents"),
            (self.fill.is_some(), "--fill"),
            (self.plant.is_some(), "--plant"),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect()
    }
}

/// The figures that hold, and the cases with their numbers.
#[derive(Debug)]
pub(super) struct Asked {
    pub days: u32,
    pub residents: u32,
    pub fill: Fill,
    pub plants: Vec<(&'static Case, u32)>,
    /// The flags that ask for it, always the same ones; `None` = none are needed.
    pub variant: Option<String>,
}

impl Asked {
    /// Fills in what was not given.
    ///
    /// # Errors
    /// Usage, when names or numbers of cases mean nothing, or there is no schedule that they could be planted in.
    pub fn new(spec: &Spec, figures: &Figures) -> Result<Self> {
        let days = figures.days.unwrap_or(spec.days);
        let residents = figures.residents.unwrap_or(spec.residents);
        let fill = figures.fill.unwrap_or_default();
        let (plants, planted) = match &figures.plant {
            Some(typed) => plants(typed).map(|(plants, text)| (plants, Some(text)))?,
            None => (Vec::new(), None),
        };
        if !plants.is_empty() && fill != Fill::Full {
            return Err(Error::usage(format!("cases are planted in a full schedule; this one is to be {}", fill.name()))
                .cure("leave out --fill, or --plant"));
        }
        if !plants.is_empty() && days < sheet::DAYS {
            return Err(Error::usage(format!("cases take {} days; the schedule is to have {days}", sheet::DAYS))
                .cure(format!("--days {} or more", sheet::DAYS)));
        }
        let variant = [
            (days != spec.days).then(|| format!("--days {days}")),
            (residents != spec.residents).then(|| format!("--residents {residents}")),
            (fill != Fill::Full).then(|| format!("--fill {}", fill.name())),
            planted.map(|text| format!("--plant {text}")),
        ];
        let variant: Vec<String> = variant.into_iter().flatten().collect();
        Ok(Self { days, residents, fill, plants, variant: (!variant.is_empty()).then(|| variant.join(" ")) })
    }
}

/// The cases and their numbers, in the order of the list; and the same as text, always in one way.
fn plants(typed: &str) -> Result<(Vec<(&'static Case, u32)>, String)> {
    let names = || CASES.iter().map(|case| case.name);
    let cure = || format!("--plant all, all:2, or some of these, as PL-1:10,PL-7\n{}", list());
    let mut wanted: Vec<(usize, u32)> = Vec::new();
    for part in typed.split(',').map(str::trim) {
        let (name, count) = part.split_once(':').unwrap_or((part, "1"));
        let count: u32 = count.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| {
            Error::usage(format!("`{count}` in --plant is not a number of cases")).cure(format!("{name}:1 to {name}:1000000"))
        })?;
        if name == "all" && typed != part {
            return Err(Error::usage("--plant names all cases, and some of them again").cure("--plant all, or the names of some"));
        }
        if name == "all" {
            let text = if count == 1 { name.into() } else { part.into() };
            return Ok((CASES.iter().map(|case| (case, count)).collect(), text));
        }
        let Some(case) = names().position(|known| known == name) else {
            let hint = nearest(name, names().chain(["all"])).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            return Err(Error::usage(format!("there is no case `{name}` to plant{hint}")).cure(cure()));
        };
        if wanted.iter().any(|(known, _)| *known == case) {
            return Err(Error::usage(format!("--plant names {name} twice")).cure(format!("once, with a number: {name}:2")));
        }
        wanted.push((case, count));
    }
    wanted.sort_unstable();
    let part = |(case, count): &(usize, u32)| match count {
        1 => CASES[*case].name.to_owned(),
        count => format!("{}:{count}", CASES[*case].name),
    };
    let text = wanted.iter().map(part).collect::<Vec<_>>().join(",");
    Ok((wanted.into_iter().map(|(case, count)| (&CASES[case], count)).collect(), text))
}

/// The cases, one on each line.
fn list() -> String {
    CASES.iter().map(|case| format!("{:<7} {}", case.name, case.what)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(plant: &str) -> Result<Asked> {
        let figures = Figures { plant: Some(plant.into()), ..Figures::default() };
        Asked::new(&Spec::built_in().unwrap(), &figures)
    }

    #[test]
    fn the_same_is_always_called_the_same() {
        let variant = |plant: &str| asked(plant).unwrap().variant.unwrap();
        assert_eq!(variant("PL-7, PL-1:10"), "--plant PL-1:10,PL-7");
        assert_eq!(variant("PL-1:10,PL-7:1"), "--plant PL-1:10,PL-7");
        assert_eq!(
            (variant("all"), variant("all:1"), variant("all:3")),
            ("--plant all".into(), "--plant all".into(), "--plant all:3".into())
        );
        let spec = Spec::built_in().unwrap();
        let figures = Figures { days: Some(28), residents: Some(51), fill: Some(Fill::Sparse), plant: None };
        assert_eq!(Asked::new(&spec, &figures).unwrap().variant.as_deref(), Some("--residents 51 --fill sparse"));
        assert_eq!(Asked::new(&spec, &Figures::default()).unwrap().variant, None);
    }

    #[test]
    fn the_list_fits_the_screen() {
        // Behind the cure's margin.
        assert!(list().lines().all(|line| line.chars().count() <= 80 - 9), "{}", list());
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_was_meant() {
        let refused = |plant: &str, word: &str| {
            let error = asked(plant).expect_err("refused").to_string();
            assert!(error.contains(word) && error.contains("cure"), "{error}");
        };
        refused("pl-12", "did you mean `PL-12`");
        refused("al", "did you mean `all`");
        refused("xyz", "nine residents where there is room for eight");
        refused("", "there is no case ``");
        refused("PL-1:0", "`0`");
        refused("PL-1:many", "`many`");
        refused("PL-1,PL-1:2", "PL-1 twice");
        refused("all,PL-1", "again");
        let spec = Spec::built_in().unwrap();
        let with = |days, fill| Asked::new(&spec, &Figures { days, fill, plant: Some("PL-1".into()), ..Figures::default() });
        assert!(with(Some(14), None).expect_err("short").to_string().contains("--days 28"));
        assert!(with(None, Some(Fill::Sparse)).expect_err("thin").to_string().contains("--fill"));
    }
}
