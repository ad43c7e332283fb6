"""The conversation log becomes a LoRA adapter that is shown to be better, and can be taken back.

collect     the log -> examples: consented, not forgotten, weighted by what people thought of each reply
redact      personal data out of them, before anything is written
clean       doubles, loops, wrong languages and overlong ones out
split       by conversation and time into train, validation and test
train       examples -> adapter folder; methods, continual, preferences hold its ways
evaluate    before and after on the same held-out items
gate        better, worse or not proven, by a written rule
promote     into the running engine, for a share of conversations first if wanted; and back
report      what happened, for a person to read
run         the whole way; each stage leaves its result in the run's folder, so that a run goes on after a crash
"""
