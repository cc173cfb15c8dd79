"""mmnar: honest clinical risk when whole modalities are missing not at random."""
