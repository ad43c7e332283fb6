"""What must not be lost: people, conversations, feedback, what has arrived, adapters."""
