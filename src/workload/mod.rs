//! What is proposed? Pure in the random numbers and in what this virtual user has observed.

pub mod booking;
pub mod keyed;
pub mod twin;
