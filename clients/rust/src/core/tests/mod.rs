//! The core in virtual time: the language-neutral vectors and dialogues, and what they leave out.

mod bounds;
mod journeys;
mod log;
mod overtaken;
mod rules;
mod scripts;
mod told;
mod vectors;
mod world;
