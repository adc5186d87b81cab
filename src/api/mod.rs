//! What does a reference API answer, over HTTP, on the tables of the dataset?

pub mod desk;
