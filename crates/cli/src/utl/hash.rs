//! `hashkv`.

use super::failure::Failure;
use super::output::{self, Form};
use super::place::ensure_file;
use super::snapshot::open_sound;
use crate::command_line::flag::Values;
use quorate_backend::hash::hash_kv;

pub(super) fn hash(values: &Values) -> Result<(), Failure> {
    let file = &values.words[0];
    let form = Form::read(values.text("write-out"))?;
    ensure_file(file)?;
    let reader = open_sound(file)?;
    let hash = hash_kv(&reader, values.int("rev")).map_err(|error| Failure::new(error.to_string()))?;
    print!("{}", output::hash(hash, form)?);
    Ok(())
}
