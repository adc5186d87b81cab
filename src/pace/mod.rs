//! When does which virtual user work, and when does which arrival come? Pure: curves, arrivals, pauses and the shapes of load, in the
//! words of k6.

mod arrivals;
mod duration;
mod profile;
mod ramp;
mod think;

pub use arrivals::{Arrival, Arrivals};
pub use duration::{duration_text, parse_duration};
pub use profile::Profile;
pub use ramp::{Ramp, Stage};
pub use think::Think;
