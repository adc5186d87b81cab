//! What is proposed? Pure in the random numbers and in what this virtual user has observed.

pub mod appointment;
pub mod booking;
pub mod contest;
pub mod keyed;
pub mod scheduling;
pub mod twin;
