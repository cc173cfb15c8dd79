"""What the answers of a service say over time: is the run still asked of patients like those that it learned from?"""
