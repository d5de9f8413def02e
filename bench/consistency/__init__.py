"""Many writers to one session, through several front ends, while the store fails: what was recorded is checked afterwards."""
