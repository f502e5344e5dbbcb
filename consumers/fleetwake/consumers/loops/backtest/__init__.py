"""
The loops service over what was recorded: would it have warned, when, and rightly?

There is no detection here. Recordings become events as a producer makes them, stand in
a log in memory, and the service itself reads it (`replay`). What comes out is compared
with what is known of the recording (`score`) and counted (`report`).
"""
